"""Which category counts published percentages can come from, and what they add up to."""

from collections.abc import Mapping
from dataclasses import dataclass

# Half a unit of the second decimal, the last one printed, and room for the float's own error.
MARGIN = 0.5 * 10.0**-2 + 1e-9


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


def recombine(percentages: Mapping[str, float], counts: Mapping[str, int]) -> Recombination:
    """Returns the nearest whole numbers of right answers, for the same categories.

    With the two decimals that are published and fewer than 10,000 rows in a category, at most one
    number fits.
    """
    num_right = {name: round(percentages[name] * counts[name] / 100) for name in counts}
    fits = {
        name: abs(100 * num_right[name] / counts[name] - percentages[name]) <= MARGIN
        for name in counts
    }
    return Recombination(counts, num_right, fits)
