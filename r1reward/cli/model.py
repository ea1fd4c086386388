"""``r1reward model check``: may this model be trained, and do engine and learner agree on it?"""

from dataclasses import dataclass
from typing import Literal

from r1reward.cli.verb import Verb, VerbGroup, argument, option
from r1reward.recipe.sections import Dtype


@dataclass(frozen=True)
class CheckArguments:
    """A model, and what it is to be computed on."""

    path: str = argument(help="a folder, a hub name or a URL, as model.path of a recipe")
    device: Literal["cpu", "cuda"] = option(default="cpu")
    dtype: Dtype = option(default="float32")


def check(arguments: CheckArguments) -> int:
    """Returns 0 if all that was measured is right, else 1."""
    from rich.console import Console

    from r1reward.pipeline.model_check import check_model

    console = Console()
    return 0 if check_model(arguments.path, arguments.device, arguments.dtype, console) else 1


VERB = VerbGroup(
    "model",
    "look at a model before it is trained",
    (
        Verb(
            "check",
            "family and parts; on the real engines: images arrive, engine and learner agree; "
            "status 1 if not",
            check,
            after_ctrl_c="starts from the beginning",
        ),
    ),
)
