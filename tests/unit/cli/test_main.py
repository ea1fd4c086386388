"""The command line: exit codes, and that looking at a recipe stays light."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from r1reward import __version__
from r1reward.cli.main import explain, main
from r1reward.data.stores.rollout_store import rollout_path
from r1reward.recipe.files import dump_recipe, load_recipe
from r1reward.recipe.recipe import Recipe

LOCAL = str(Path(__file__).parents[3] / "recipes" / "local.yaml")
HEAVY = {"torch", "ray", "vllm", "transformers", "deepspeed", "numpy", "pyarrow", "PIL", "wandb"}


def test_show_prints_a_recipe_that_loads_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["recipe", "show", LOCAL, "learner.lr=6e-5"]) == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    assert load_recipe(shown) == load_recipe(LOCAL, ["learner.lr=6e-5"])
    assert yaml.safe_load(shown.read_text())["learner"]["lr"] == 6e-5


def test_validate_says_that_a_recipe_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "validate", LOCAL]) == 0
    assert capsys.readouterr().out == f"{LOCAL}: valid\n"


@pytest.mark.parametrize(
    "arguments", [["recipe", "validate"], ["recipe", "show"], ["train"], ["rollout"]]
)
def test_a_wrong_recipe_is_status_2_with_the_reason_on_stderr(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, LOCAL, "learner.lrr=1"]) == 2
    captured = capsys.readouterr()
    assert "learner.lrr: unknown key; did you mean 'lr'?" in captured.err
    assert captured.out == ""


def test_a_missing_recipe_is_status_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["recipe", "validate", str(tmp_path / "gone.yaml")]) == 2
    assert "gone.yaml: no such recipe file" in capsys.readouterr().err


def test_schema_is_json_that_names_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    "arguments", [[], ["recipe"], ["fly"], ["train"], ["recipe", "burn", LOCAL]]
)
def test_a_wrong_command_is_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: r1reward" in capsys.readouterr().err


def test_version_and_help_are_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version"], ["--help"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(__version__)
    assert all(verb in out for verb in ("train", "rollout", "eval", "compare", "report", "recipe"))


def test_show_and_dump_are_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipe", "show", LOCAL])
    assert capsys.readouterr().out == dump_recipe(load_recipe(LOCAL))


@pytest.mark.parametrize("arguments", [["recipe", "validate", LOCAL], ["--help"]])
def test_looking_at_a_recipe_imports_no_engine(arguments: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from r1reward.cli.main import main\n"
        "try:\n"
        "    status = main(sys.argv[1:])\n"
        "except SystemExit as stopped:\n"
        "    status = stopped.code\n"
        "names = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "print(json.dumps(names), file=sys.stderr)\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    imported = set(json.loads(done.stderr.splitlines()[-1]))
    assert {"r1reward", "pydantic", "yaml"} <= imported, "the check sees what was imported"
    assert imported & HEAVY == set()


def one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What wrong input is answered with: status 2, one line on stderr, no cluster started."""
    import ray

    was_open = ray.is_initialized()  # by the stack tests, which share one
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert ray.is_initialized() == was_open
    return captured.err


def test_folders_without_a_result_are_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, empty = str(tmp_path / "gone"), str(tmp_path)
    message = one_sentence(["compare", gone, empty], capsys)
    assert message.startswith(f"{gone}: holds no result.json; give the folder of a finished")
    for folder in (gone, empty):
        message = one_sentence(["report", folder], capsys)
        assert message.startswith(f"{folder} is neither a run folder (recipe.yaml) nor a finished")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "\x00"])
def test_a_result_that_is_none_is_status_2(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: ``report`` ended in a traceback."""
    (tmp_path / "result.json").write_text(content)
    for arguments in (["compare", str(tmp_path), str(tmp_path)], ["report", str(tmp_path)]):
        message = one_sentence(arguments, capsys)
        assert message.startswith(f"{tmp_path / 'result.json'}: not the result of an evaluation: ")
    assert not (tmp_path / "report.html").exists()


def pairs_file(folder: Path) -> str:
    path = folder / "pairs.jsonl"
    row = {"question": "?", "images": [], "response_1": "a", "response_2": "b", "preferred": 1}
    path.write_text(json.dumps(row) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data PAIRS", "--model (a folder or name) or --predictions (a JSONL file) is missing"),
        ("--model shapes", "pairs is read from a file: give its path"),
        ("--model shapes --data ROOT/gone.jsonl", "ROOT/gone.jsonl: no such file"),
        ("--model ROOT/gone --data PAIRS", "model.path: ROOT/gone: no such folder"),
        ("--model ROOT --data PAIRS", "model.path: ROOT is no model folder: it has no config.json"),
        ("--predictions ROOT/gone.jsonl --data PAIRS", "ROOT/gone.jsonl: no such file"),
        ("--predictions PAIRS --data PAIRS", "PAIRS line 1: unknown field 'images'"),
    ],
)
def test_an_evaluation_of_wrong_input_is_status_2(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pairs_file(tmp_path)

    def filled(text: str) -> str:
        return text.replace("PAIRS", data).replace("ROOT", str(tmp_path))

    command = ["eval", "--bench", "pairs", "--out", str(tmp_path / "out")]
    shown = one_sentence([*command, *filled(arguments).split()], capsys)
    assert shown.startswith(filled(message))
    assert not (tmp_path / "out" / "result.json").exists()


def test_predictions_are_scored_without_an_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text('{"row": 1, "choice": 1}\n{"row": 1, "order": "swapped", "choice": 1}\n')
    command = ["eval", "--bench", "pairs", "--data", pairs_file(tmp_path)]
    out = tmp_path / "out"
    command += ["--predictions", str(predictions), "--out", str(out)]
    # Twice: the second run starts from the file again and adds nothing to its answers.
    for _ in range(2):
        assert main(command) == 0
        assert "all rows" in capsys.readouterr().out
        assert len((out / "answers.jsonl").read_text().splitlines()) == 2
    found = json.loads((out / "result.json").read_text())
    assert found["accuracy"]["value"] == 0.5
    assert found["conditions"]["model"] == str(predictions)


def test_predictions_need_every_row_that_they_may_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that is left out would move the numbers of those behind it."""
    bench = Path(pairs_file(tmp_path))
    bench.write_text('{"question": 7}\n' + bench.read_text())
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text('{"row": 1, "choice": 1}\n')
    command = ["eval", "--bench", "pairs", "--data", str(bench)]
    command += ["--predictions", str(predictions), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert f"{bench} row 1: " in told
    assert "(predictions name rows by their number: mend the row)" in told


def test_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: a traceback."""
    full = OSError(errno.ENOSPC, "No space left on device", "runs/eval/result.json")
    assert explain([full]) == 1
    assert capsys.readouterr().err == (
        "runs/eval/result.json cannot be written (No space left on device): make room, then the "
        "same command goes on\n"
    )


PIPELINE = str(Path(__file__).parents[3] / "recipes" / "pipeline_local.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval"], "eval needs --model and --bench, or a pipeline's recipe"),
        (["eval", "--model", "shapes"], "eval needs --model and --bench"),
        (["eval", PIPELINE, "--model", "shapes", "--bench", "shapes"], "not both"),
    ],
)
def test_eval_wants_a_recipe_or_flags(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["annotate", "sft", "select", "run", "eval"])
def test_a_stage_without_its_section_is_status_2(
    verb: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([verb, LOCAL, f"run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert "the recipe has no" in error and "Traceback" not in error


def test_a_pipeline_does_not_move_into_another_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}")
    assert main(["run", PIPELINE, f"run_dir={tmp_path}"]) == 2
    assert "holds a training run: choose another run_dir" in capsys.readouterr().err


def test_a_stage_says_which_one_comes_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = "data.train.num_pairs=2"
    assert main(["sft", PIPELINE, small, f"run_dir={tmp_path}"]) == 2
    assert "run `r1reward annotate RECIPE` first" in capsys.readouterr().err


@pytest.mark.parametrize("num_files", [None, 0, 2])
def test_rollouts_that_are_not_there_are_missed_before_anything_starts(
    num_files: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: the learner had started, and the advice was to lower train.num_steps to nothing."""
    saved = tmp_path / "rollouts"
    if num_files is not None:
        saved.mkdir()
        for step in range(num_files):
            rollout_path(saved, step).touch()
    settings = [f"train.from_rollouts={saved}", "train.num_steps=3", f"run_dir={tmp_path / 'run'}"]
    in_process = ["placement.mode=in_process", "judge={type: rule}"]
    shown = one_sentence(["train", LOCAL, *settings, *in_process], capsys)
    assert shown.startswith(f"train.from_rollouts: {saved}")
    assert {None: "no such folder", 0: "no step-000001.parquet", 2: "train.num_steps=2"}[
        num_files
    ] in shown
    assert not (tmp_path / "run").exists()
