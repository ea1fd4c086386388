"""``r1reward data ACTION``. A new action is a file beside this one and a line here."""

from __future__ import annotations

from r1reward.cli.data import decontaminate, dedupe, import_pairs, mix, show, split, stats, validate
from r1reward.cli.verb import VerbGroup

VERB = VerbGroup(
    "data",
    "make, look at, clean, split and mix stores of preference pairs",
    (
        import_pairs.VERB,
        validate.VERB,
        stats.VERB,
        dedupe.VERB,
        decontaminate.VERB,
        show.VERB,
        split.VERB,
        mix.VERB,
    ),
)
