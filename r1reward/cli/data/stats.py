"""``r1reward data stats``: what a store's pairs are like, as two tables."""

from dataclasses import dataclass
from pathlib import Path

from r1reward.cli.data.action import data_verb, print_table, printable, progress
from r1reward.cli.verb import argument
from r1reward.errors import InputError


@dataclass(frozen=True)
class StatsArguments:
    """Stores that are counted together."""

    stores: list[Path] = argument(nargs="+", metavar="DIR")


def run(arguments: StatsArguments) -> None:
    from rich.console import Console
    from rich.table import Table

    from r1reward.data.stores.pair_stats import MEASURES, QUANTILES, count_pairs

    with progress("stats") as on_rows:
        stats = count_pairs(arguments.stores, on_rows)
    if not stats.num_rows:
        why = next((f" ({rows[0]})" for rows in stats.report.examples.values()), "")
        raise InputError(f"{', '.join(map(str, arguments.stores))}: holds no pairs{why}")
    table = Table("", "pairs", "share", box=None, pad_edge=False)
    table.add_row("all", f"{stats.num_rows:,}", "")
    for kind, counts in (("source", stats.sources), ("category", stats.categories)):
        for name, count in counts.most_common(20):
            share = f"{count / stats.num_rows:.1%}"
            table.add_row(printable(f"{kind} {name or '(none)'}"), f"{count:,}", share)
    longer = stats.longer_preferred
    table.add_row("the longer response preferred", f"{longer:,}", f"{longer / stats.num_rows:.1%}")
    table.add_row("with a video", f"{stats.num_videos:,}", "")
    table.add_row("groups", f"{len(stats.groups):,}", "")
    console = Console()
    console.print(table)
    measures = Table("a row has", *(f"{q} %" for q in QUANTILES), box=None, pad_edge=False)
    for name in MEASURES:
        measures.add_row(name, *(f"{value:,}" for value in stats.quantiles(name)))
    console.print(measures)
    print_table(stats.report, "counted")


VERB = data_verb("stats", "count sources, categories, labels, lengths and images", run)
