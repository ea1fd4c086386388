"""Values as the page shows them: shares in per cent, large numbers in groups, true minus signs."""

from r1reward.evaluation.intervals import Interval, bounds, percent

Facts = dict[str, str]  # what the page lists, by label

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"


def typeset(text: str) -> str:
    """Returns the text with minus signs in the place of hyphens; a hyphen alone becomes a dash."""
    return NOTHING if text == "-" else text.replace("-", MINUS)


def brackets(interval: Interval, sign: str = "") -> str:
    """Returns both ends of an interval in points, as the terminal shows them but for the minus."""
    return typeset(bounds(interval, sign))


def share(value: float | None) -> str:
    """Returns a share in per cent, or a dash where it was not measured."""
    return typeset(percent(value))


def whole(count: int) -> str:
    """Returns a count with a thin space between its thousands."""
    return f"{count:,}".replace(",", "\u202f")


def decimal(value: float | None) -> str:
    """Returns a number that is no share, in four digits."""
    return NOTHING if value is None else f"{value:.4g}"
