"""``r1reward report``: one HTML file of a run, a pipeline or an evaluation."""

from dataclasses import dataclass
from pathlib import Path

from r1reward.cli.verb import Verb, argument, option


@dataclass(frozen=True)
class ReportArguments:
    """What is reported, and the file that it goes to."""

    folder: str = argument(help="a run's, a pipeline's or an evaluation's folder, or its URL")
    out: Path | None = option(help="default: report.html in the folder")


def run(arguments: ReportArguments) -> None:
    from rich.console import Console

    from r1reward.report.build import build_report
    from r1reward.runs.mirror import look_at

    page = build_report(look_at(arguments.folder), arguments.out)
    Console().print(f"report   {page}", highlight=False)


VERB = Verb("report", "one HTML file of a run, a pipeline or an evaluation", run)
