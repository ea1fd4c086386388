"""The command line: exit codes, and that looking at a recipe stays light."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from r1reward import __version__
from r1reward.cli import main
from r1reward.config import Recipe
from r1reward.recipe_file import dump_recipe, load_recipe

LOCAL = str(Path(__file__).parents[2] / "recipes" / "local.yaml")
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
    assert all(verb in out for verb in ("train", "rollout", "recipe"))


def test_show_and_dump_are_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipe", "show", LOCAL])
    assert capsys.readouterr().out == dump_recipe(load_recipe(LOCAL))


@pytest.mark.parametrize("arguments", [["recipe", "validate", LOCAL], ["--help"]])
def test_looking_at_a_recipe_imports_no_engine(arguments: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from r1reward.cli import main\n"
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
