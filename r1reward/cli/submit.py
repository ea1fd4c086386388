"""``r1reward submit``: a recipe as a job of a Ray cluster; the job's log and exit status here."""

import os
from dataclasses import dataclass
from typing import Literal

from r1reward.cli.verb import RecipeArguments, Verb, option

JobVerb = Literal["run", "annotate", "sft", "select", "train", "rollout", "eval"]


@dataclass(frozen=True)
class SubmitArguments(RecipeArguments):
    """A recipe, the cluster that it goes to, and what goes with it."""

    address: str = option(required=True, metavar="URL", help="e.g. http://head:8265")
    verb: JobVerb | None = option(
        help="what the job runs; default: run for a pipeline's recipe, else train"
    )
    secret: list[str] = option(
        metavar="NAME", help="pass this environment variable on (docs/jobs.md says who can see it)"
    )
    exclude: list[str] = option(metavar="PATTERN", help="files not to ship")
    no_wait: bool = option(help="do not follow the job")


def run(arguments: SubmitArguments) -> int:
    recipe = arguments.load()
    # Where there is a token, Ray's client is to show it; it reads this as it is imported.
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from r1reward.jobs.submit import JobRequest, submit

    request = JobRequest(
        recipe, arguments.address, arguments.verb, arguments.secret, arguments.exclude
    )
    return submit(request, not arguments.no_wait, write)


def write(text: str) -> None:
    print(text, end="", flush=True)


VERB = Verb(
    "submit",
    "run a recipe as a job of a Ray cluster: logs and exit status here",
    run,
    sigterm_is_ctrl_c=False,
)
