"""The coverage study: how often do the 95 % intervals of an evaluation hold the true value?

Evaluations are simulated many times over: pairs with a probability of a right answer each, two orders,
one or several samples, alone or in groups; then differences of two models on the same pairs. The
intervals are those of ``r1reward.evaluation.intervals``, beside the exact binomial ones of as many
independent pairs. The last table is about adaptive voting: how often it gives another verdict than all K
samples.

    python -m studies.coverage --out docs/intervals.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.special import betaincinv

from r1reward.evaluation.intervals import TAIL, mean_intervals
from r1reward.evaluation.voting.adaptive import verdict
from r1reward.evaluation.voting.stopping import samples_needed
from r1reward.types import Slot
from studies.document_tables import check_marks, fill

NUM_RUNS = 10_000
SMALLEST_GROUP, LARGEST_GROUP = 2, 6
# The correlation of two samples of one pair, and of two pairs of one group: real pairs are hard or easy.
PAIR_CORRELATION, GROUP_CORRELATION = 0.3, 0.2


@dataclass(frozen=True)
class Cell:
    """One line of the table. ``num_samples`` is that of each order; ``pair_correlation`` is that of the
    samples of one pair, 1 for a model that always answers alike.
    """

    num_pairs: int
    rate: float
    num_samples: int
    grouped: bool
    pair_correlation: float = PAIR_CORRELATION
    group_correlation: float = GROUP_CORRELATION


@dataclass(frozen=True)
class Coverage:
    """The share of runs whose interval holds the true value, and mean widths."""

    share: float
    width: float
    narrowest: float
    exact_width: float


def cells() -> Iterator[Cell]:
    """The cells of the table: what a plan of evaluation varies."""
    for grouped, pairs, rate, samples in product(
        (False, True), (50, 200), (0.5, 0.9, 0.99), (1, 8)
    ):
        yield Cell(pairs, rate, samples, grouped)


def draw_groups(cell: Cell, num_runs: int, generator: np.random.Generator) -> np.ndarray:
    """Returns the number of pairs of every group [R, G]; 0 where a run has no more groups."""
    if not cell.grouped:
        return np.ones((num_runs, cell.num_pairs), dtype=np.int64)
    most = cell.num_pairs // SMALLEST_GROUP + 1
    drawn = generator.integers(SMALLEST_GROUP, LARGEST_GROUP + 1, (num_runs, most))
    before = np.cumsum(drawn, axis=1) - drawn
    return np.clip(cell.num_pairs - before, 0, drawn)


def draw_shares(
    means: np.ndarray, correlation: float, generator: np.random.Generator
) -> np.ndarray:
    """Returns Beta-distributed probabilities, whose answers are correlated by this much."""
    if correlation == 0:
        return means
    if correlation == 1:
        return (generator.random(means.shape) < means).astype(np.float64)
    count = 1 / correlation - 1
    shares = generator.beta(np.maximum(means * count, 1e-9), np.maximum((1 - means) * count, 1e-9))
    # Where both parameters are next to nothing, the sampler divides 0 by 0.
    return np.where(np.isnan(shares), means, shares)


def draw_values(
    cell: Cell, num_runs: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sums of the pairs' accuracies in every group [R, G], and how many pairs these are."""
    sizes = draw_groups(cell, num_runs, generator)
    rates = np.full(sizes.shape, cell.rate)
    if cell.grouped:
        rates = draw_shares(rates, cell.group_correlation, generator)
    num_answers = 2 * cell.num_samples
    sums = np.zeros(sizes.shape)
    for number in range(int(sizes.max())):
        shares = draw_shares(rates, cell.pair_correlation, generator)
        values = generator.binomial(num_answers, shares) / num_answers
        sums += np.where(number < sizes, values, 0.0)
    return sums, sizes.astype(np.float64)


def exact_width(num_right: np.ndarray, num_pairs: int) -> float:
    """Returns the mean width of Clopper and Pearson's intervals, as if every pair were one yes or no."""
    num_wrong = num_pairs - num_right
    low = np.where(num_right > 0, betaincinv(np.maximum(num_right, 1), num_wrong + 1, TAIL), 0.0)
    high = np.where(
        num_wrong > 0, betaincinv(num_right + 1, np.maximum(num_wrong, 1), 1 - TAIL), 1.0
    )
    return float((high - low).mean())


def measure(cell: Cell, num_runs: int, seed: int = 0) -> Coverage:
    """Returns the coverage of one cell."""
    generator = np.random.default_rng(seed)
    sums, sizes = draw_values(cell, num_runs, generator)
    _, low, high = mean_intervals(sums, sizes)
    covered = (low <= cell.rate) & (cell.rate <= high)
    num_right = generator.binomial(cell.num_pairs, cell.rate, num_runs)
    return Coverage(
        share=float(covered.mean()),
        width=float((high - low).mean()),
        narrowest=float((high - low).min()),
        exact_width=exact_width(num_right, cell.num_pairs),
    )


def measure_difference(cell: Cell, gain: float, num_runs: int, seed: int = 0) -> Coverage:
    """Returns the coverage of the difference of two models on the same pairs, the second one better by
    ``gain``: of the answers that the first has wrong it has a part right in the same pairs.
    """
    generator = np.random.default_rng(seed)
    sizes = draw_groups(cell, num_runs, generator)
    rates = np.full(sizes.shape, cell.rate)
    if cell.grouped:
        rates = draw_shares(rates, cell.group_correlation, generator)
    mended = gain / (1 - cell.rate)
    num_answers = 2 * cell.num_samples
    sums = np.zeros(sizes.shape)
    for number in range(int(sizes.max())):
        shares = draw_shares(rates, cell.pair_correlation, generator)
        before = generator.binomial(num_answers, shares)
        after = generator.binomial(num_answers, shares + (1 - shares) * mended)
        # From -1 ... 1 to 0 ... 1, as ``difference_interval`` does it.
        sums += np.where(number < sizes, ((after - before) / num_answers + 1) / 2, 0.0)
    _, low, high = mean_intervals(sums, sizes.astype(np.float64))
    low, high = 2 * low - 1, 2 * high - 1
    covered = (low <= gain) & (gain <= high)
    widths = high - low
    return Coverage(float(covered.mean()), float(widths.mean()), float(widths.min()), float("nan"))


def markdown(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A table whose numbers are on the right; a column of words ends in a colon in ``columns``."""
    heads = " | ".join(column.removesuffix(":") for column in columns)
    sides = "|".join("---" if column.endswith(":") else "---:" for column in columns)
    rows = (f"| {' | '.join(map(str, cells))} |" for cells in lines)
    return "\n".join([f"| {heads} |", f"|{sides}|", *rows])


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def groups_of(cell: Cell) -> str:
    return f"{SMALLEST_GROUP} to {LARGEST_GROUP}" if cell.grouped else "-"


def coverage_table(num_runs: int) -> str:
    columns = ["pairs", "in groups of:", "rate", "samples an order", "covered, %"]
    columns += ["mean width, points", "exact binomial's", "narrowest"]
    lines = []
    for cell in cells():
        found = measure(cell, num_runs)
        shares = (found.share, found.width, found.exact_width, found.narrowest)
        given = (cell.num_pairs, groups_of(cell), cell.rate, cell.num_samples)
        lines.append((*given, *map(percent, shares)))
    return markdown(columns, lines)


def other_models_table(num_runs: int) -> str:
    """Pairs whose samples are independent, or all alike; groups whose pairs are."""
    rates = (0.5, 0.9, 0.99)
    columns = ["pairs", "samples of a pair:", "pairs of a group:", *(f"rate {r:g}" for r in rates)]
    kinds = [
        ("independent", 0.0, "-", 0.0),
        ("correlated 0.1", 0.1, "-", 0.0),
        ("correlated 0.6", 0.6, "-", 0.0),
        ("all alike", 1.0, "-", 0.0),
        ("correlated 0.3", 0.3, "independent", 0.0),
        ("correlated 0.3", 0.3, "correlated 0.5", 0.5),
    ]
    lines = []
    for num_pairs, (samples, inner, groups, outer) in product((50, 200), kinds):
        found = [
            measure(Cell(num_pairs, rate, 8, groups != "-", inner, outer), num_runs)
            for rate in rates
        ]
        lines.append((num_pairs, samples, groups, *(percent(one.share) for one in found)))
    return markdown(columns, lines)


def differences_table(num_runs: int) -> str:
    columns = ["pairs", "in groups of:", "rate before", "gain", "samples an order", "covered, %"]
    lines = []
    for grouped, num_pairs, (rate, gain), samples in product(
        (False, True), (50, 200), ((0.5, 0.1), (0.9, 0.0), (0.9, 0.05), (0.98, 0.01)), (1, 8)
    ):
        cell = Cell(num_pairs, rate, samples, grouped)
        found = measure_difference(cell, gain, num_runs)
        given = (num_pairs, groups_of(cell), rate, gain, samples)
        lines.append((*given, percent(found.share), percent(found.width)))
    return markdown([*columns, "mean width, points"], lines)


def adaptive_table(num_rows: int, num_samples: int, error: float) -> str:
    """Rows of four kinds, stopped by the rule, against the verdicts of all K samples."""
    kinds: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
        "all at 50 %": lambda generator: np.full(num_rows, 0.5),
        "crowded at 50 %: Beta(20, 20)": lambda generator: generator.beta(20, 20, num_rows),
        "any share alike: Beta(1, 1)": lambda generator: generator.random(num_rows),
        "mostly sure: Beta(2, 0.5)": lambda generator: generator.beta(2, 0.5, num_rows),
    }
    lines = []
    for name, draw in kinds.items():
        generator = np.random.default_rng(0)
        first = generator.random((num_rows, num_samples)) < draw(generator)[:, None]
        changed = used = 0
        for row in first.tolist():
            votes: list[Slot | None] = [1 if one else 2 for one in row]
            count = samples_needed(votes, error)
            used += count
            changed += verdict(votes[:count]) != verdict(votes)
        lines.append((name, percent(changed / num_rows), percent(used / num_rows / num_samples)))
    return markdown(["rows:", "other verdict than all K, %", "samples used, %"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the intervals cover.")
    parser.add_argument("--runs", type=int, default=NUM_RUNS, help="simulated evaluations a cell")
    parser.add_argument("--out", type=Path, default=None, help="file whose tables are replaced")
    chosen = parser.parse_args()
    makers = {
        "coverage": lambda: coverage_table(chosen.runs),
        "other models": lambda: other_models_table(chosen.runs),
        "differences": lambda: differences_table(chosen.runs),
        "adaptive": lambda: adaptive_table(4 * chosen.runs, 15, 0.05),
    }
    if chosen.out is not None:
        check_marks(chosen.out, *makers)
    for name, make in makers.items():
        table = make()
        print(f"{name}\n{table}\n", flush=True)
        if chosen.out is not None:
            fill(chosen.out, table, name)


if __name__ == "__main__":
    main()
