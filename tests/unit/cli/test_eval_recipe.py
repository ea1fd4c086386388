"""``r1reward eval``: what the flags make of the recipe, and what a model folder says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from r1reward.cli.evaluate import eval_settings
from r1reward.cli.main import parse
from r1reward.errors import InputError, RecipeError
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.pipeline.eval_settings import eval_recipe
from r1reward.recipe.model_settings import FILE_NAME, read_model_settings, write_model_settings
from r1reward.recipe.recipe import EvalRecipe
from tests.fakes import make_recipe


def resolve(*arguments: str, bench: str = "pairs") -> EvalRecipe:
    _, parsed = parse(["eval", "--bench", bench, *arguments])
    model_folder = None if parsed.endpoint else parsed.model
    return eval_recipe(eval_settings(parsed), model_folder, parsed.overrides)


def words(line: str) -> list[str]:
    return line.split()


def refused(*arguments: str, bench: str = "pairs") -> str:
    with pytest.raises(InputError) as caught:
        resolve(*arguments, bench=bench)
    return str(caught.value)


def test_flags_become_settings() -> None:
    recipe = resolve(
        *words(
            "--model shapes --data d.jsonl --images pictures --missing drop --rows 9 --samples 5"
        ),
        *words("--orders random --temperature 0.5 --adaptive 0.1 --image-off --seed 3 --out o"),
    )
    assert recipe.model.path == "shapes"
    assert recipe.bench.model_dump(mode="json", exclude={"num_frames", "frame_max_pixels"}) == {
        "name": "pairs",
        "path": "d.jsonl",
        "images": "pictures",
        "links": [],
        "missing": "drop",
        "num_rows": 9,
        "official": False,
        "suite": None,
    }
    evaluate = recipe.evaluate
    assert (evaluate.samples, evaluate.orders, evaluate.temperature) == (5, "random", 0.5)
    assert (evaluate.adaptive, evaluate.image_off) == (0.1, True)
    assert (recipe.seed, recipe.run_dir) == (3, Path("o"))


def test_without_flags_one_greedy_sample_in_both_orders() -> None:
    recipe = resolve("--model", "shapes", bench="shapes")
    evaluate = recipe.evaluate
    assert (evaluate.samples, evaluate.orders, evaluate.adaptive) == (1, "both", None)
    assert evaluate.sampling_temperature == 0.0
    assert not evaluate.image_off
    assert recipe.name == "shapes-shapes"
    assert recipe.run_dir == Path("runs/eval-shapes-shapes")
    assert recipe.endpoint is None
    assert recipe.predictions is None


def test_several_samples_are_drawn_at_temperature_1() -> None:
    assert resolve("--model", "shapes", "--samples", "5").evaluate.sampling_temperature == 1.0


def test_adaptive_alone_is_exact() -> None:
    assert resolve("--model", "shapes", "--samples", "5", "--adaptive").evaluate.adaptive == 0.0


def test_an_endpoint_replaces_the_engines() -> None:
    recipe = resolve("--model", "org/some model", "--endpoint", "http://127.0.0.1:1/v1")
    assert recipe.endpoint is not None
    assert (recipe.endpoint.url, recipe.endpoint.model) == (
        "http://127.0.0.1:1/v1",
        "org/some model",
    )
    assert recipe.name == "pairs-some-model"


def test_predictions_need_no_model() -> None:
    """Regression: a missing model was looked up as a folder, a TypeError."""
    recipe = resolve("--predictions", "made/elsewhere.jsonl")
    assert recipe.predictions == Path("made/elsewhere.jsonl")
    assert recipe.name == "pairs-elsewhere.jsonl"


@pytest.mark.parametrize(
    ("bench", "asked"),
    [
        ("vl-rewardbench", (10, 0.2, 0.2, "random")),
        ("mm-rlhf-rewardbench", (1, 0.0, 1.0, "single")),
        ("multimodal-rewardbench", (1, 1.0, 1.0, "stored")),
    ],
)
def test_official_brings_the_official_way_of_asking(
    bench: str, asked: tuple[int, float, float, str]
) -> None:
    recipe = resolve("--model", "shapes", "--official", bench=bench)
    evaluate = recipe.evaluate
    found = (evaluate.samples, evaluate.temperature, evaluate.top_p, evaluate.orders)
    assert found == asked
    assert recipe.bench.official


@pytest.mark.parametrize(
    ("flags", "bench", "asked"),
    [
        ("--official", "vl-rewardbench", ("vl-rewardbench", True, 2048)),
        ("--official", "multimodal-rewardbench", ("multimodal-rewardbench", True, 1024)),
        ("--suite lmms-eval", "vl-rewardbench", ("vl-rewardbench", False, 1024)),
        ("--suite lmms-eval", "multimodal-rewardbench", ("multimodal-rewardbench", False, 1024)),
        ("--suite vlmevalkit", "vl-rewardbench", ("vl-rewardbench", False, 2048)),
    ],
)
def test_a_protocol_asks_with_its_own_prompt(
    flags: str, bench: str, asked: tuple[str, bool, int]
) -> None:
    recipe = resolve(*words(f"--model shapes {flags}"), bench=bench)
    prompt = recipe.prompt
    assert (prompt.template, prompt.images_last, recipe.model.max_new_tokens) == asked
    assert prompt.format_mode == prompt.template
    # The model's own way to be asked is a setting away.
    own = resolve(*words(f"--model shapes {flags} prompt.template=short"), bench=bench)
    assert own.prompt.template == "short"


def test_a_suite_asks_in_an_order_by_parity() -> None:
    recipe = resolve(*words("--model shapes --suite lmms-eval"), bench="vl-rewardbench")
    evaluate = recipe.evaluate
    assert (evaluate.samples, evaluate.temperature, evaluate.orders) == (1, 1.0, "parity")


def test_mm_rlhf_rewardbench_has_no_prompt_for_pairs() -> None:
    recipe = resolve(*words("--model shapes --official"), bench="mm-rlhf-rewardbench")
    assert recipe.prompt == resolve("--model", "shapes", bench="mm-rlhf-rewardbench").prompt


def test_flags_override_what_is_official() -> None:
    evaluate = resolve(
        *words("--model shapes --official --samples 3 --temperature 0.9 --orders both"),
        bench="vl-rewardbench",
    ).evaluate
    assert (evaluate.samples, evaluate.temperature, evaluate.orders) == (3, 0.9, "both")
    assert evaluate.top_p == 0.2


def test_overrides_come_last() -> None:
    recipe = resolve(
        *words("--model shapes --official --samples 3 --seed 1"),
        *words("evaluate.samples=7 evaluate.top_p=0.5 seed=2 bench.num_rows=4"),
        bench="vl-rewardbench",
    )
    assert (recipe.evaluate.samples, recipe.evaluate.top_p) == (7, 0.5)
    assert (recipe.seed, recipe.bench.num_rows) == (2, 4)


def model_folder(path: Path, settings: object) -> str:
    path.mkdir()
    (path / FILE_NAME).write_text(yaml.safe_dump(settings))
    return str(path)


def test_a_model_folder_is_asked_as_it_was_trained(tmp_path: Path) -> None:
    settings = {
        "model": {"max_prompt_tokens": 300, "max_new_tokens": 77, "dtype": "bfloat16"},
        "prompt": {"template": "short", "think_tag": "thought"},
    }
    folder = model_folder(tmp_path / "model", settings)
    recipe = resolve("--model", folder)
    assert (recipe.model.max_prompt_tokens, recipe.model.max_new_tokens) == (300, 77)
    assert (recipe.model.path, recipe.model.dtype) == (folder, "bfloat16")
    assert (recipe.prompt.template, recipe.prompt.think_tag) == ("short", "thought")
    changed = resolve("--model", folder, "prompt.template=authors", "model.dtype=float32")
    assert (changed.prompt.template, changed.prompt.think_tag) == ("authors", "thought")
    assert changed.model.dtype == "float32"


def test_the_miniature_is_asked_as_it_was_trained() -> None:
    recipe = resolve("--model", "shapes")
    from r1reward.shapes import MODEL_DIR

    own = yaml.safe_load((MODEL_DIR / FILE_NAME).read_text())
    assert recipe.prompt.template == own["prompt"]["template"]
    assert recipe.model.max_image_tokens == own["model"]["max_image_tokens"]


def test_written_settings_are_read_back(tmp_path: Path) -> None:
    recipe = make_recipe(model__dtype="float32", model__max_image_tokens=5000)
    write_model_settings(tmp_path, recipe.model, recipe.prompt)
    assert read_model_settings(tmp_path) == {
        "model": {
            "dtype": "float32",
            "min_image_tokens": 4,
            "max_image_tokens": 5000,
            "max_prompt_tokens": 64,
            "max_new_tokens": 32,
        },
        "prompt": {
            "template": "standard",
            "images_last": False,
            "think_tag": "think",
            "answer_tag": "answer",
            "format_mode": "strict",
        },
    }
    again = resolve("--model", str(tmp_path))
    assert again.prompt == recipe.prompt
    assert again.model.max_image_tokens == 5000


def test_a_folder_without_settings_has_none(tmp_path: Path) -> None:
    assert read_model_settings(tmp_path) == {}
    assert read_model_settings(tmp_path / "gone") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "not a YAML file"),
        ("- model", "must hold the sections model and prompt only"),
        ("learner: {lr: 1}", "must hold the sections model and prompt only"),
        ("", "must hold the sections model and prompt only"),
    ],
)
def test_settings_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_model_settings(tmp_path)
    assert str(tmp_path / FILE_NAME) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model (a folder or name) or --predictions (a JSONL file) is missing"),
        (
            ["--endpoint", "http://127.0.0.1:1/v1"],
            "--model (a folder or name) or --predictions (a JSONL file) is missing",
        ),
        (
            ["--model", "shapes", "--official"],
            "pairs has no published scoring rule: leave out --official",
        ),
        (
            ["--model", "shapes", "evaluate.sample=3"],
            "evaluate.sample: unknown key; did you mean 'samples'?",
        ),
        (
            ["--model", "shapes", "--samples", "5", "--temperature", "0"],
            "greedy samples are all alike",
        ),
        (["--model", "shapes", "--samples", "0"], "evaluate.samples: Input should be greater"),
        (["--model", "shapes", "--adaptive", "0.5"], "evaluate.adaptive: Input should be less"),
        (
            ["--model", "shapes", "seed=1", "samples"],
            "'samples' is not of the form section.key=value",
        ),
        (
            ["--model", "m", "--endpoint", "http://me:secret@127.0.0.1:1/v1"],
            "the endpoint's url carries a user name, password or query",
        ),
    ],
)
def test_what_cannot_be_asked_for(arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_an_unknown_key_of_a_model_folder_is_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", {"prompt": {"templete": "short"}})
    assert "prompt.templete: unknown key; did you mean 'template'?" in refused("--model", folder)


def test_a_model_folders_sections_are_sections(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", {"prompt": 5})
    assert "prompt: Input should be a valid" in refused("--model", folder)


def test_an_evaluation_folder_is_of_one_recipe(tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path / "out")
    recipe = resolve("--model", "shapes", "--out", str(folder.root))
    other = resolve("--model", "shapes", "--out", str(folder.root), "--samples", "3")
    folder.prepare(recipe)
    # Nothing was asked yet: another recipe may take its place, and stays itself.
    folder.prepare(other)
    folder.answers.write_text("")
    folder.prepare(other)
    with pytest.raises(RecipeError, match="holds an evaluation that was made otherwise"):
        folder.prepare(recipe)
    assert yaml.safe_load(folder.recipe.read_text())["evaluate"]["samples"] == 3


@pytest.mark.parametrize(
    ("line", "bench", "reason"),
    [
        (
            "--predictions p --samples 3",
            "pairs",
            "are scored as they were made: leave out --samples",
        ),
        ("--predictions p --image-off", "pairs", "they were made: leave out --image-off"),
        ("--predictions p --adaptive", "pairs", "they were made: leave out --adaptive"),
        ("--predictions p --model m --endpoint http://h/v1", "pairs", "leave out --endpoint"),
        ("--model shapes --data my.jsonl", "shapes", "shapes is built in: leave out --data"),
    ],
)
def test_flags_that_would_change_nothing_are_refused(line: str, bench: str, reason: str) -> None:
    """Regression: the file, or the built-in rows, were evaluated as if the flag were not there."""
    assert reason in refused(*words(line), bench=bench)


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "localhost:8000/v1", "http://"])
def test_an_endpoint_needs_a_whole_address(url: str) -> None:
    """Regression: it was tried five times, then the evaluation failed."""
    assert "must begin with http:// or https://" in refused("--model", "m", "--endpoint", url)


def test_a_training_run_is_not_evaluated_over(tmp_path: Path) -> None:
    """Regression: the run's recipe.yaml was replaced by the evaluation's."""
    (tmp_path / "recipe.yaml").write_text("name: a run\n")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(RecipeError, match="holds a training run: choose another --out"):
        EvalFolder(tmp_path).prepare(resolve("--model", "shapes"))
    assert (tmp_path / "recipe.yaml").read_text() == "name: a run\n"


def test_answers_without_their_recipe_are_left_alone(tmp_path: Path) -> None:
    """Regression: a model's answers went on in a file of unknown origin; predictions replaced it."""
    (tmp_path / "answers.jsonl").write_text("")
    with pytest.raises(RecipeError, match=r"is there without a recipe\.yaml"):
        EvalFolder(tmp_path).prepare(resolve("--model", "shapes"))


def test_a_broken_answer_is_found_before_anything_starts(tmp_path: Path) -> None:
    """Regression: a TypeError, after the engines had started."""
    folder, recipe = EvalFolder(tmp_path), resolve("--model", "shapes")
    folder.prepare(recipe)
    folder.answers.write_text('{"item": "a", "order": "sto\n{"item": "a"}\n')
    with pytest.raises(InputError, match=r"answers\.jsonl line 2: not an answer of an evaluation"):
        folder.prepare(recipe)


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    """Regression: a traceback."""
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RecipeError, match="cannot be written, choose another --out"):
            EvalFolder(out).prepare(resolve("--model", "shapes"))
    assert (tmp_path / "file").read_text() == "mine"
