"""``r1reward eval``: one model on one benchmark, or the last stage of a pipeline's recipe."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from r1reward.cli.stages import run_in_folder, run_stage
from r1reward.cli.verb import OVERRIDES_HELP, Verb, argument, option
from r1reward.errors import InputError
from r1reward.recipe.choices import BenchmarkName, MissingMedia, OrderMode, SuiteName
from r1reward.recipe.files import load_recipe, merge, nested


@dataclass(frozen=True)
class EvalArguments:
    """Every flag, or a pipeline's recipe as the first of ``overrides``.

    Raises ``argparse.ArgumentError`` where both are given, or neither.
    """

    model: str | None = option(help="a model folder, 'shapes', or a name at the endpoint")
    endpoint: str | None = option(metavar="URL", help="an OpenAI-compatible server")
    predictions: Path | None = option("predictions", help="score answers made elsewhere (JSONL)")
    bench: BenchmarkName | None = option("bench.name")
    data: Path | None = option("bench.path", help="the benchmark's file or folder")
    images: Path | None = option("bench.images", help="folder of relative media paths")
    missing: MissingMedia = option("bench.missing", default="refuse")
    rows: int | None = option("bench.num_rows", help="the first rows only")
    samples: int | None = option("evaluate.samples", help="K of voting@K")
    orders: OrderMode | None = option("evaluate.orders")
    temperature: float | None = option(
        "evaluate.temperature", help="default: 0 for one sample, else 1"
    )
    adaptive: float | None = option(
        "evaluate.adaptive",
        nargs="?",
        const=0.0,
        metavar="ERROR",
        help="stop sampling a row once its vote cannot change (or does with at most this chance)",
    )
    image_off: bool | None = option("evaluate.image_off", default=None)
    official: bool = option("bench.official", help="ask and score as the benchmark's own scripts")
    suite: SuiteName | None = option("bench.suite", help="ask and score as this suite does")
    seed: int = option("seed", default=0)
    out: str | None = option(
        "run_dir", help="a folder or fsspec URL, default: runs/eval-BENCH-MODEL"
    )
    overrides: list[str] = argument(
        nargs="*",
        metavar="[RECIPE] KEY=VALUE",
        help=f"a pipeline's recipe instead of every flag; {OVERRIDES_HELP}",
    )

    def __post_init__(self) -> None:
        if self.recipe is None:
            if self.bench is None:
                message = "eval needs --model and --bench, or a pipeline's recipe"
                raise argparse.ArgumentError(None, message)
        elif self.model or self.bench or self.predictions:
            message = f"eval takes a recipe ({self.recipe}) or --model and --bench, not both"
            raise argparse.ArgumentError(None, message)

    @property
    def recipe(self) -> str | None:
        first = self.overrides[0] if self.overrides else "="
        return None if "=" in first else first


def run(arguments: EvalArguments) -> None:
    if arguments.recipe is not None:
        recipe = load_recipe(arguments.recipe, arguments.overrides[1:])
        run_in_folder(recipe, partial(run_stage, "eval"))
        return
    from r1reward.pipeline.eval_settings import eval_recipe
    from r1reward.pipeline.evaluate import evaluate_model

    model_folder = None if arguments.endpoint else arguments.model
    settings = eval_settings(arguments)
    run_in_folder(eval_recipe(settings, model_folder, arguments.overrides), evaluate_model)


def eval_settings(arguments: EvalArguments) -> Mapping[str, Any]:
    """Returns what the flags set, in the words of a recipe. Raises ``InputError``."""
    if arguments.predictions is None and arguments.model is None:
        raise InputError("--model (a folder or name) or --predictions (a JSONL file) is missing")
    refuse_unused(arguments)
    model = arguments.model or str(arguments.predictions)
    settings: dict[str, Any] = {"model": {"path": model}}
    if arguments.endpoint is not None:
        settings["endpoint"] = {"url": arguments.endpoint, "model": model}
    for item in fields(arguments):
        name, value = item.metadata.get("recipe"), getattr(arguments, item.name)
        if name and value is not None:
            settings = merge(settings, nested(name, value))
    return settings


def refuse_unused(arguments: EvalArguments) -> None:
    """A flag that would change nothing is a misunderstanding."""
    unused: tuple[str, ...] = ()
    if arguments.predictions is not None:
        reason = "--predictions are scored as they were made"
        unused = ("endpoint", "samples", "orders", "temperature", "adaptive", "image_off")
    elif str(arguments.bench).startswith("shapes"):
        reason = f"{arguments.bench} is built in"
        unused = ("data", "images")
    for name in unused:
        if getattr(arguments, name) is not None:
            raise InputError(f"{reason}: leave out --{name.replace('_', '-')}")


VERB = Verb(
    "eval",
    "evaluate a model on a benchmark, or every model of a pipeline; run it again to resume",
    run,
    usage="%(prog)s (--model MODEL --bench BENCH [options] | RECIPE) [KEY=VALUE ...]",
)
