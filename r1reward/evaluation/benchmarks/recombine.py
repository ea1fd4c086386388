"""Which category counts published percentages can come from, and what they add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Recombination:
    """Right answers behind published percentages, if the categories have ``counts`` rows.

    ``fits`` says for each category whether its number of right answers prints as the percentage that
    was published. Where one does not, these are not the counts behind the percentages and
    ``overall`` is only near to what they would give.
    """

    counts: Mapping[str, int]
    num_right: Mapping[str, int]
    fits: Mapping[str, bool]

    @property
    def overall(self) -> float:
        """Pooled share of right answers."""
        return sum(self.num_right.values()) / sum(self.counts.values())

    @property
    def macro(self) -> float:
        """Mean of the categories' shares."""
        return sum(self.num_right[name] / self.counts[name] for name in self.counts) / len(
            self.counts
        )

    @property
    def all_fit(self) -> bool:
        return all(self.fits.values())


def recombine(
    percentages: Mapping[str, float], counts: Mapping[str, int], num_decimals: int = 2
) -> Recombination:
    """Returns the nearest whole numbers of right answers. Raises ``ValueError`` if the categories
    differ.

    With two decimals and fewer than 10,000 rows in a category, at most one number fits.
    """
    if set(percentages) != set(counts):
        raise ValueError(
            f"percentages are of {sorted(percentages)} and counts of {sorted(counts)}: "
            "give both for the same categories"
        )
    num_right = {name: round(percentages[name] * counts[name] / 100) for name in counts}
    # Half a unit of the last printed digit, and room for the float's own error.
    margin = 0.5 * 10.0**-num_decimals + 1e-9
    fits = {
        name: abs(100 * num_right[name] / counts[name] - percentages[name]) <= margin
        for name in counts
    }
    return Recombination(dict(counts), num_right, fits)


def recombine_under_each(
    percentages: Mapping[str, float],
    counts_by_mapping: Mapping[str, Mapping[str, int]],
    num_decimals: int = 2,
) -> dict[str, Recombination]:
    """Returns one recombination for every category mapping."""
    return {
        mapping: recombine(percentages, counts, num_decimals)
        for mapping, counts in counts_by_mapping.items()
    }
