"""``r1reward plan``: does a recipe fit, before a GPU hour is spent on finding out."""

from dataclasses import dataclass

from r1reward.cli.verb import RecipeArguments, Verb, option
from r1reward.errors import InputError


@dataclass(frozen=True)
class PlanArguments(RecipeArguments):
    """A recipe and the hardware that it is to fit on."""

    gpu_gb: float = option(default=80.0, help="memory of one GPU")
    gpus_per_node: int = option(default=8)
    host_gb: float | None = option(help="memory of a node; default: not judged")
    images: int | None = option(help="images of one pair; default: model.max_images")


def run(arguments: PlanArguments) -> int:
    """Returns 0 if everything fits, else 1. Raises ``InputError`` for a size that is none."""
    recipe = arguments.load()
    for name in ("gpu_gb", "gpus_per_node", "host_gb"):
        size = getattr(arguments, name)
        if size is not None and size <= 0:
            raise InputError(f"--{name.replace('_', '-')} is {size:g}: give a number above 0")
    if arguments.images is not None and arguments.images < 0:
        raise InputError(f"--images is {arguments.images}: give 0 or more")
    from rich.console import Console

    from r1reward.sizing.plan_table import Hardware, show_plan

    hardware = Hardware(
        arguments.gpu_gb, arguments.gpus_per_node, arguments.host_gb, arguments.images
    )
    return 0 if show_plan(recipe, hardware, Console()) else 1


VERB = Verb(
    "plan", "does the recipe fit? memory of every GPU and node by part; status 1 if not", run
)
