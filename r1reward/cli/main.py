"""r1reward VERB RECIPE [section.key=value ...]"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from r1reward import __version__
from r1reward.cli.data import add_data_arguments, run_data
from r1reward.errors import InputError, RecipeError, ServiceError, StoppedError
from r1reward.recipe.files import dump_recipe, load_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import BenchSection, OrderMode

if TYPE_CHECKING:
    from rich.console import Console

OVERRIDES_HELP = "settings to change, for example learner.lr=6e-5"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="r1reward", description="Train generative multimodal reward models with RL."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (
        ("run", "every stage of a pipeline recipe; run it again to go on"),
        ("annotate", "a teacher writes traces; its attempts tell how hard a pair is"),
        ("sft", "supervised fine-tuning on the teacher's agreeing traces"),
        ("select", "choose the pairs that reinforcement learning trains on"),
        ("train", "train by reinforcement learning; run it again to resume"),
        ("rollout", "sample and judge rollouts without a learner"),
    ):
        add_recipe_arguments(verbs.add_parser(verb, help=text, description=text))
    add_submit_arguments(verbs)
    add_eval_arguments(verbs)
    add_data_arguments(verbs)
    compare = verbs.add_parser("compare", help="is one evaluation better than another?")
    for name, text in (("before", "an evaluation's folder"), ("after", "another one's")):
        compare.add_argument(name, help=text)
    report = verbs.add_parser("report", help="one HTML file of a run, a pipeline or an evaluation")
    report.add_argument(
        "folder", help="a run's, a pipeline's or an evaluation's folder, or its URL"
    )
    report.add_argument("--out", type=Path, help="default: report.html in the folder")
    add_plan_arguments(verbs)
    recipe = verbs.add_parser("recipe", help="look at a recipe without running it")
    actions = recipe.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, text in (
        ("show", "print the resolved recipe"),
        ("validate", "check the recipe and say what is wrong"),
    ):
        add_recipe_arguments(actions.add_parser(action, help=text, description=text))
    actions.add_parser("schema", help="print the JSON schema of a recipe")
    return parser


def add_submit_arguments(verbs: Any) -> None:
    text = "run a recipe as a job of a Ray cluster: logs and exit status here"
    parser = verbs.add_parser("submit", help=text, description=text)
    parser.add_argument("--address", required=True, metavar="URL", help="e.g. http://head:8265")
    parser.add_argument(
        "--verb",
        dest="verb_of_job",
        choices=("run", "annotate", "sft", "select", "train", "rollout", "eval"),
        help="what the job runs; default: run for a pipeline's recipe, else train",
    )
    parser.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="NAME",
        help="pass this environment variable on (docs/jobs.md says who can see it)",
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="files not to ship"
    )
    parser.add_argument("--no-wait", action="store_true", help="do not follow the job")
    add_recipe_arguments(parser)


def add_plan_arguments(verbs: Any) -> None:
    text = "does the recipe fit? memory of every GPU and node by part; status 1 if not"
    plan = verbs.add_parser("plan", help=text, description=text)
    add_recipe_arguments(plan)
    plan.add_argument("--gpu-gb", type=float, default=80.0, help="memory of one GPU")
    plan.add_argument("--gpus-per-node", type=int, default=8)
    plan.add_argument("--host-gb", type=float, help="memory of a node; default: not judged")
    plan.add_argument("--images", type=int, help="images of one pair; default: model.max_images")
    text = "what is wrong on this machine, and the fix of each; status 1 if something is"
    doctor = verbs.add_parser("doctor", help=text, description=text)
    doctor.add_argument("recipe", nargs="?", help="a YAML file, to check what it needs")
    doctor.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=OVERRIDES_HELP)
    doctor.add_argument("--run-dir", type=Path, help="default: the recipe's, or runs")
    doctor.add_argument("--ports", type=int, nargs="+", default=[], help="that must be free")
    doctor.add_argument("--deep", action="store_true", help="also load the engines")


def add_eval_arguments(verbs: Any) -> None:
    text = "evaluate a model on a benchmark, or every model of a pipeline; run it again to resume"
    usage = "%(prog)s (--model MODEL --bench BENCH [options] | RECIPE) [KEY=VALUE ...]"
    parser = verbs.add_parser("eval", help=text, description=text, usage=usage)
    parser.add_argument("--model", help="a model folder, 'shapes', or a name at the endpoint")
    parser.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible server")
    parser.add_argument("--predictions", type=Path, help="score answers made elsewhere (JSONL)")
    benches = get_args(BenchSection.model_fields["name"].annotation)
    parser.add_argument("--bench", choices=benches)
    parser.add_argument("--data", type=Path, help="the benchmark's file or folder")
    parser.add_argument("--images", type=Path, help="folder that media paths are relative to")
    parser.add_argument("--missing", choices=("refuse", "drop"), default="refuse")
    parser.add_argument("--rows", type=int, help="the first rows only")
    parser.add_argument("--samples", type=int, help="K of voting@K")
    parser.add_argument("--orders", choices=get_args(OrderMode))
    parser.add_argument("--temperature", type=float, help="default: 0 for one sample, else 1")
    parser.add_argument(
        "--adaptive",
        type=float,
        nargs="?",
        const=0.0,
        metavar="ERROR",
        help="stop sampling a row once its vote cannot change (or may with at most this chance)",
    )
    parser.add_argument("--image-off", action="store_true", default=None)
    parser.add_argument("--official", action="store_true", help="the benchmark's own protocol")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="a folder or fsspec URL, default: runs/eval-BENCH-MODEL")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="[RECIPE] KEY=VALUE",
        help=f"a pipeline's recipe instead of every flag; {OVERRIDES_HELP}",
    )


def take_recipe(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    """``eval RECIPE`` is the pipeline's last stage, ``eval --model ... --bench ...`` one evaluation."""
    if chosen.overrides and "=" not in chosen.overrides[0]:
        chosen.recipe = chosen.overrides.pop(0)
        if chosen.model or chosen.bench or chosen.predictions:
            parser.error(f"eval takes a recipe ({chosen.recipe}) or --model and --bench, not both")
    elif chosen.bench is None:
        parser.error("eval needs --model and --bench, or a pipeline's recipe")


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=OVERRIDES_HELP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 on success, 1 when a run fails, 2 for wrong input, 130 after Ctrl-C or SIGTERM."""
    parser = build_parser()
    chosen = parse(parser, arguments)
    if chosen.verb == "eval":
        take_recipe(parser, chosen)
    try:
        if chosen.verb == "recipe":
            print(look_at_recipe(chosen), end="")
            return 0
        named = getattr(chosen, "recipe", None)
        recipe = load_recipe(named, chosen.overrides) if named is not None else None
    except RecipeError as error:
        print(error, file=sys.stderr)
        return 2
    return run(chosen, recipe)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Overrides may also stand behind an option, where argparse does not look for them any more."""
    chosen, rest = parser.parse_known_args(arguments)
    if rest and ("overrides" not in chosen or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        chosen.overrides = [*chosen.overrides, *rest]
    return chosen


def look_at_recipe(chosen: argparse.Namespace) -> str:
    if chosen.action == "schema":
        return json.dumps(Recipe.model_json_schema(), indent=2) + "\n"
    recipe = load_recipe(chosen.recipe, chosen.overrides)
    return dump_recipe(recipe) if chosen.action == "show" else f"{chosen.recipe}: valid\n"


def run(chosen: argparse.Namespace, recipe: Recipe | None) -> int:
    """Everything heavy is imported from here on, so that looking at a recipe stays instant."""
    import os
    import warnings

    from r1reward.runs.signals import sigterm_is_ctrl_c

    if chosen.verb != "submit":
        sigterm_is_ctrl_c()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("RAY_SILENT_DEPRECATION", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("httpx", "ray", "asyncio", "vllm", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        if chosen.verb == "submit":
            assert recipe is not None
            return submit_job(chosen, recipe)
        return run_verb(chosen, recipe)
    except KeyboardInterrupt:
        where = goes_on(chosen)
        if recipe is not None and chosen.verb == "train":
            where = f"goes on from the last checkpoint of {recipe.run_url or recipe.run_dir}"
        print(f"stopped; the same command {where}", file=sys.stderr)
        return 130
    except InputError as error:
        return explain([error])
    except Exception as error:
        from r1reward.actors.launch import root_causes

        causes = root_causes(error)
        if all(isinstance(cause, StoppedError) for cause in causes):
            print(f"{causes[0]}; the same command goes on from there", file=sys.stderr)
            return 130
        return explain(causes)


def submit_job(chosen: argparse.Namespace, recipe: Recipe) -> int:
    import os

    # Where there is a token, Ray's client is to show it; it reads this as it is imported.
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from r1reward.jobs.submit import JobRequest, submit

    def write(text: str) -> None:
        print(text, end="", flush=True)

    request = JobRequest(
        recipe, chosen.address, chosen.verb_of_job, tuple(chosen.secret), tuple(chosen.exclude)
    )
    return submit(request, not chosen.no_wait, write)


def goes_on(chosen: argparse.Namespace) -> str:
    """Of the verbs over data, only an import keeps what it has done."""
    return (
        "begins anew"
        if chosen.verb == "data" and chosen.action != "import"
        else "goes on where it was"
    )


def run_verb(chosen: argparse.Namespace, recipe: Recipe | None) -> int:
    """Exit status 1 from the verbs that answer a question with no."""
    from rich.console import Console

    from r1reward.runs.mirroring import kept_copied

    console = Console()
    works_there = chosen.verb not in ("plan", "doctor")
    with kept_copied(recipe if works_there else None):
        return run_in_folder(chosen, recipe, console)


def run_in_folder(chosen: argparse.Namespace, recipe: Recipe | None, console: Console) -> int:
    import asyncio

    match chosen.verb:
        case "run":
            from r1reward.pipeline.run import run_all

            assert recipe is not None
            asyncio.run(run_all(recipe, console))
        case "annotate" | "sft" | "select" | "train":
            from r1reward.pipeline.run import run_stage

            assert recipe is not None
            asyncio.run(run_stage(recipe, chosen.verb, console))
        case "rollout":
            from r1reward.pipeline.sample import sample_rollouts

            assert recipe is not None
            asyncio.run(sample_rollouts(recipe, console))
        case "eval" if recipe is not None:
            from r1reward.pipeline.run import run_stage

            asyncio.run(run_stage(recipe, "eval", console))
        case "eval":
            from r1reward.cli.eval_recipe import eval_recipe
            from r1reward.pipeline.evaluate import evaluate_model
            from r1reward.runs.mirroring import kept_copied

            evaluated = eval_recipe(chosen)
            with kept_copied(evaluated):
                asyncio.run(evaluate_model(evaluated, console))
        case "data":
            run_data(chosen, console)
        case "compare":
            from r1reward.cli.compare import compare
            from r1reward.runs.mirror import look_at

            compare(look_at(chosen.before), look_at(chosen.after), console)
        case "report":
            from r1reward.report.build import build_report
            from r1reward.runs.mirror import look_at

            page = build_report(look_at(chosen.folder), chosen.out)
            console.print(f"report   {page}", highlight=False)
        case "plan":
            from r1reward.sizing.plan_table import Hardware, show_plan

            assert recipe is not None
            hardware = Hardware(chosen.gpu_gb, chosen.gpus_per_node, chosen.host_gb, chosen.images)
            return 0 if show_plan(recipe, hardware, console) else 1
        case "doctor":
            from r1reward.doctor.examine import Wanted, doctor

            wanted = Wanted(recipe, chosen.run_dir, tuple(chosen.ports), chosen.deep)
            return 0 if doctor(wanted, console) else 1
    return 0


def explain(causes: Sequence[BaseException]) -> int:
    """Wrong input and failed services get a sentence; everything else its traceback as well."""
    for cause in causes:
        if isinstance(cause, InputError | ServiceError):
            print(cause, file=sys.stderr)
        elif isinstance(cause, OSError) and cause.errno in (ENOSPC, EDQUOT):
            where = cause.filename or "a file"
            print(
                f"{where} cannot be written ({cause.strerror}): make room, then the same command "
                "goes on",
                file=sys.stderr,
            )
        else:
            logging.error("%s: %s", type(cause).__name__, cause, exc_info=cause)
    return 2 if all(isinstance(cause, InputError) for cause in causes) else 1


if __name__ == "__main__":
    sys.exit(main())
