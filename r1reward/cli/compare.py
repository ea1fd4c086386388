"""``r1reward compare``: two evaluations of the same rows, their paired difference and its tests."""

from dataclasses import dataclass

from r1reward.cli.verb import Verb, argument


@dataclass(frozen=True)
class CompareArguments:
    """Two folders of evaluations, or their URLs."""

    before: str = argument(help="an evaluation's folder")
    after: str = argument(help="another one's")


def run(arguments: CompareArguments) -> None:
    from rich.console import Console

    from r1reward.evaluation.tables import compare_folders
    from r1reward.runs.mirror import look_at

    compare_folders(look_at(arguments.before), look_at(arguments.after), Console())


VERB = Verb("compare", "is one evaluation better than another?", run)
