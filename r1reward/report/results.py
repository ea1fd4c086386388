"""What the report takes from result.json: the one place that knows the names in that file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1reward.errors import InputError
from r1reward.evaluation.intervals import bootstrap_by_group
from r1reward.report.facts import Estimate, Fact, Section, estimate, facts, plain

NUM_BOOTSTRAP = 2000
MINUS = "\N{MINUS SIGN}"
ORDERS = {
    "both": "every pair in both orders",
    "single": "one order a row",
    "stored": "as stored",
    "authors": "the authors' own",
    "random": "drawn at random",
}


@dataclass(frozen=True)
class Tile:
    """One headline number. ``chance`` is where a coin stands, None where that means nothing.

    ``is_difference``: of two shares, hence in points and with a sign.
    """

    label: str
    estimate: Estimate
    note: str = ""
    chance: float | None = None
    is_difference: bool = False

    @property
    def number(self) -> str:
        sign = "+" if self.is_difference else ""
        return f"{100 * self.estimate.value:{sign}.1f}".replace("-", MINUS)


@dataclass(frozen=True)
class ScoreRow:
    name: str
    num_rows: int | None
    accuracy: Estimate | None
    voted: Estimate | None
    group_accuracy: Estimate | None
    is_summary: bool = False


@dataclass(frozen=True)
class ScoreTable:
    mapping: str
    source: str
    rows: tuple[ScoreRow, ...]

    @property
    def has_groups(self) -> bool:
        return any(row.group_accuracy for row in self.rows)


@dataclass(frozen=True)
class CurvePoint:
    """One K of the voting curves. ``weighted`` is the vote weighted by confidence, where measured."""

    num_votes: int
    voted: Estimate
    weighted: Estimate | None
    any_correct: Estimate
    chance: float
    tied_share: float
    no_vote_share: float


@dataclass(frozen=True)
class CalibrationBin:
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class CalibrationCurve:
    """How often something is right by how sure it is; ``error`` is its ECE."""

    name: str
    bins: tuple[CalibrationBin, ...]
    error: float


@dataclass(frozen=True)
class OfficialPart:
    name: str
    num_right: int
    num_counted: int

    @property
    def share(self) -> Estimate | None:
        return Estimate(self.num_right / self.num_counted) if self.num_counted else None


@dataclass(frozen=True)
class OfficialTable:
    """A score by the benchmark's own published rule."""

    rule: str
    parts: tuple[OfficialPart, ...]
    overall: Estimate | None
    macro: Estimate | None
    num_left_out: int
    notes: tuple[str, ...]


def read_result(path: Path) -> dict[str, Any]:
    """An evaluation as ``Evaluation.to_json`` gave it. Raises ``InputError`` for another file."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: not the result of an evaluation: {error}") from error
    if not isinstance(found, dict) or "conditions" not in found:
        raise InputError(f"{path}: not the result of an evaluation: it tells no conditions")
    return found


def needed(found: Section | float | None) -> Estimate:
    shown = estimate(found)
    assert shown is not None, "a result always has this number"
    return shown


def headline(result: Section) -> list[Tile]:
    num_samples = result["conditions"]["num_samples"]
    tiles = [Tile("Accuracy, one sample", needed(result["accuracy"]), chance=0.5)]
    if num_samples > 1:
        tiles.append(Tile(f"Voting@{num_samples}", needed(result["voted"]), chance=0.5))
    if (all_right := estimate(result["group_accuracy"])) is not None:
        note = f"all rows of a group right; {result['num_groups']} groups"
        tiles.append(Tile("Acc+", all_right, note))
    if (drop := estimate(result.get("image_off_drop"))) is not None:
        tiles.append(Tile("Without the image", minus(drop), "accuracy, paired", is_difference=True))
    return tiles


def change_tile(first: Section, last: Section, first_step: int) -> Tile | None:
    """Paired difference in accuracy over the same rows; None where the rows are not the same."""
    before = dict(zip(keys(first), first["row_accuracies"], strict=True))
    after = dict(zip(keys(last), last["row_accuracies"], strict=True))
    if before.keys() != after.keys():
        return None
    differences = [accuracy - before[key] for key, accuracy in after.items()]
    groups = [row["group"] for row in last["rows"]]
    found = bootstrap_by_group(differences, groups, NUM_BOOTSTRAP, seed=0)
    shown = Estimate(found.value, found.low, found.high)
    return Tile(f"Since step {first_step}", shown, "accuracy, paired", is_difference=True)


def minus(drop: Estimate) -> Estimate:
    """What is lost, as a change: its ends trade places, too."""
    low, high = drop.low, drop.high
    return Estimate(-drop.value, None if high is None else -high, None if low is None else -low)


def keys(result: Section) -> list[str]:
    return [row["key"] for row in result["rows"]]


def known(value: object) -> str:
    return "not known" if value is None else str(value)


def conditions(result: Section) -> list[Fact]:
    """Without these no number can be compared."""
    asked = result["conditions"]
    dropped = [
        f"{count} {reason.replace('_', ' ')}" for reason, count in asked["num_dropped"].items()
    ]
    found = [
        Fact("Model", asked["model"]),
        Fact("Benchmark", asked["benchmark"]),
        Fact("Data", asked["data"]),
        Fact("Rows", plain("num_rows", asked["num_rows"])),
        Fact("Dropped", ", ".join(dropped) or "none"),
        Fact("Order of responses", ORDERS.get(asked["orders"], asked["orders"])),
        Fact("Samples a row (K)", str(asked["num_samples"])),
        Fact("Temperature", known(asked["temperature"])),
        Fact("Top-p", known(asked["top_p"])),
        Fact("Seed", str(asked["seed"])),
        Fact("Prompt template", known(asked["template"])),
    ]
    if result["mappings"]:
        first = result["mappings"][0]
        found.append(Fact("Categories", f"{first['mapping']} ({first['source']})"))
    if asked["adaptive"] is not None:
        found.append(Fact("Adaptive voting", f"allowed error {asked['adaptive']:g}"))
    if asked["image_off"]:
        found.append(Fact("Images", "left out on purpose"))
    return found


def score_tables(result: Section) -> list[ScoreTable]:
    return [score_table(result, mapping) for mapping in result["mappings"]]


def score_table(result: Section, mapping: Section) -> ScoreTable:
    rows = [
        ScoreRow(
            score["category"],
            score["num_rows"],
            estimate(score["accuracy"]),
            estimate(score["voted"]),
            estimate(score["group_accuracy"]),
        )
        for score in mapping["categories"]
    ]
    rows.append(
        ScoreRow(
            "Macro: mean of categories",
            None,
            estimate(mapping["macro"]),
            estimate(mapping["macro_voted"]),
            None,
            is_summary=True,
        )
    )
    rows.append(
        ScoreRow(
            "Pooled: mean of rows",
            result["conditions"]["num_rows"],
            estimate(result["accuracy"]),
            estimate(result["voted"]),
            estimate(result["group_accuracy"]),
            is_summary=True,
        )
    )
    return ScoreTable(mapping["mapping"], mapping["source"], tuple(rows))


def curve(result: Section) -> list[CurvePoint]:
    return [
        CurvePoint(
            point["num_votes"],
            needed(point["accuracy"]),
            estimate(point.get("weighted")),
            needed(point["any_correct"]),
            point["chance"],
            point["tied_share"],
            point["no_vote_share"],
        )
        for point in result["voting"]
    ]


def calibration_curves(result: Section) -> list[CalibrationCurve]:
    """Of single answers by their confidence, and of majorities by their share of the votes."""
    names = {
        "confidence": "one answer, by its confidence",
        "vote_share": "the vote, by its majority",
    }
    found = result["calibration"] or {}
    return [
        CalibrationCurve(name, tuple(map(calibration_bin, each["bins"])), each["expected_error"])
        for key, name in names.items()
        if (each := found.get(key))
    ]


def calibration_bin(found: Section) -> CalibrationBin:
    return CalibrationBin(found["confidence"], found["accuracy"], found["num_samples"])


def official_table(result: Section) -> OfficialTable | None:
    found = result["official"]
    if found is None:
        return None
    return OfficialTable(
        found["rule"],
        tuple(OfficialPart(**part) for part in found["parts"]),
        estimate(found["overall"]),
        estimate(found["macro"]),
        found["num_left_out"],
        tuple(found["notes"]),
    )


def section_facts(result: Section, name: str) -> list[Fact]:
    """A section of which every number is shown, whatever its fields: audit, parts, adaptive."""
    return facts(result.get(name) or {})
