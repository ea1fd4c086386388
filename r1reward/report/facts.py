"""Numbers and names of a result as a reader wants them: shares in per cent, intervals in brackets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

# A section of result.json. Its values are whatever the dataclasses behind it hold.
Section = Mapping[str, Any]

NOT_SHARES = frozenset({"reward", "error"})
NAMES = {
    "num_rows_both_orders": "rows asked in both orders",
    "num_unparsed": "unreadable answers",
    "num_truncated": "answers cut at the token limit",
    "slot_1_rate": "readable answers that name slot 1",
    "flip_rate": "answers that flip when the responses are swapped",
    "both_right_share": "right in both orders (chance 25 %)",
    "unparsed_share": "unreadable, of all answers",
    "truncated_share": "cut at the limit, of all answers",
    "by_length": "",
    "num_preferred_longer": "rows whose preferred response is longer",
    "num_preferred_shorter": "rows whose preferred response is shorter",
    "num_equal": "rows with responses of equal length",
    "accuracy_preferred_longer": "accuracy where the preferred response is longer",
    "accuracy_preferred_shorter": "accuracy where the preferred response is shorter",
    "pick_longer": "picking the longer response would score",
    "pick_shorter": "picking the shorter response would score",
    "consistency": "answer follows the analysis, of those judged",
    "well_formed": "well-formed answers",
    "num_tokens": "tokens an answer",
    "reward": "mean reward",
    "num_samples": "samples a row at most (K)",
    "error": "error allowed to a verdict",
    "replayed": "rule replayed over complete votes",
    "used_share": "samples used",
    "predicted_share": "samples expected to be used",
    "majority_share": "share of a majority in its row",
    "num_changed": "verdicts that differ from all K samples'",
}
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Estimate:
    """A share with its 95 % interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def percent(self) -> str:
        return f"{100 * self.value:.1f} %"

    @property
    def range(self) -> str:
        if self.low is None or self.high is None:
            return ""
        return f"[{100 * self.low:.1f}, {100 * self.high:.1f}]".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Fact:
    label: str
    value: str


def is_interval(found: object) -> TypeGuard[Section]:
    return isinstance(found, Mapping) and {"value", "low", "high"} <= found.keys()


def estimate(found: Section | float | None) -> Estimate | None:
    """From an interval as JSON, a bare number, or nothing."""
    if found is None:
        return None
    if is_interval(found):
        return Estimate(found["value"], found["low"], found["high"])
    assert isinstance(found, int | float), f"neither an interval nor a number: {found!r}"
    return Estimate(float(found))


def facts(section: Section, under: str = "") -> list[Fact]:
    """Every number of a section, whatever its fields; sections within it are named before theirs."""
    found: list[Fact] = []
    for key, value in section.items():
        label = f"{under}{NAMES.get(key, key.removeprefix('num_').replace('_', ' '))}"
        if is_interval(value):
            shown = Estimate(value["value"], value["low"], value["high"])
            found.append(Fact(label, f"{shown.percent} {shown.range}"))
        elif isinstance(value, Mapping):
            found += facts(value, f"{label}: " if label else "")
        elif isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
            for number, entry in enumerate(value, start=1):
                found += facts(entry, f"{label} {number}: ")
        else:
            found.append(Fact(label, plain(key, value)))
    return found


def plain(key: str, value: object) -> str:
    """One value. A fraction between 0 and 1 is a share unless its name says otherwise."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}".replace(",", "\u202f")
        case float() if 0 <= value <= 1 and key not in NOT_SHARES and not key.startswith("num_"):
            return f"{100 * value:.1f} %"
        case float():
            return f"{value:.4g}"
        case str():
            return value
        case Iterable():
            return ", ".join(plain(key, each) for each in value) or NOTHING
    return str(value)


def setting(recipe: Mapping[str, Any], place: str) -> object:
    found: object = recipe
    for name in place.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def shown_setting(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items() if each is not None)
    return NOTHING if value is None else str(value)
