"""``r1reward data ACTION``. A new action is a file beside this one and a name here."""

from r1reward.cli.data import decontaminate, dedupe, import_pairs, mix, show, split, stats, validate
from r1reward.cli.verb import VerbGroup

# In the order of --help.
FILES = (import_pairs, validate, stats, dedupe, decontaminate, show, split, mix)
VERB = VerbGroup(
    "data",
    "make, look at, clean, split and mix stores of preference pairs",
    [file.VERB for file in FILES],
)
