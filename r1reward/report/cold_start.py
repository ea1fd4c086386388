"""What a teacher did, for the page of a pipeline: counts, tokens, cost, and a few of its texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r1reward.data.attempts import Annotation, Attempt, count_levels, read_annotations
from r1reward.report.charts import Chart
from r1reward.report.facts import Fact, plain
from r1reward.report.pipeline_charts import attempts_chart


@dataclass(frozen=True)
class ColdStart:
    """What the teacher did. ``attempts`` are a few of its texts, as the page's script shows them."""

    facts: list[Fact]
    chart: Chart
    attempts: list[dict[str, object]]


def cold_start(path: Path, recipe: Mapping[str, Any]) -> ColdStart | None:
    section = recipe.get("annotate")
    if not section or not path.is_file():
        return None
    most = int(section["max_attempts"])
    annotations = list(read_annotations(path, most).values())
    return ColdStart(
        facts=attempt_facts(annotations),
        chart=attempts_chart(count_levels(annotations, most), most),
        attempts=[attempt_json(one, most, whole) for whole, one in samples(annotations)],
    )


def attempt_facts(annotations: Sequence[Annotation]) -> list[Fact]:
    """Counts, tokens and cost. What a teacher does not say is not known, not zero."""
    attempts = [attempt for each in annotations for attempt in each.attempts]
    done = [each for each in annotations if each.difficulty is not None]
    agreed = sum(each.agreeing is not None for each in done)
    numbers = {
        "Pairs": plain("num", len(annotations)),
        "Answers": plain("num", len(attempts)),
        "Pairs that the teacher agreed with": of_all(agreed, len(done)),
        "Unreadable answers": plain("num", sum(each.choice is None for each in attempts)),
        "Cut at the token limit": plain("num", sum(each.truncated for each in attempts)),
        "Prompt tokens": total([each.prompt_tokens for each in attempts]),
        "Written tokens": total([each.completion_tokens for each in attempts]),
        "Cost": total([each.cost for each in attempts], "not known: no prices, or no token counts"),
    }
    return [Fact(label, value) for label, value in numbers.items()]


def of_all(count: int, num_all: int) -> str:
    share = f" ({100 * count / num_all:.1f}\u00a0%)" if num_all else ""
    return f"{plain('num', count)}{share}"


def total(values: Sequence[int | float | None], nothing: str = "not told by the teacher") -> str:
    known = [value for value in values if value is not None]
    if not known:
        return nothing
    found = sum(known)
    words = f"{found:.2f}" if isinstance(found, float) else plain("num", found)
    return words if len(known) == len(values) else f"{words}, of {len(known)} answers"


def samples(annotations: Sequence[Annotation]) -> list[tuple[Annotation, Attempt]]:
    """Of the first pair of each level its last attempt, and of the second level the one before it."""
    first: dict[int, Annotation] = {}
    for annotation in annotations:
        if annotation.difficulty is not None:
            first.setdefault(annotation.difficulty, annotation)
    levels = sorted(first)
    found: list[tuple[Annotation, Attempt]] = []
    for level in [*levels[:4], *levels[4:][-1:]]:
        pair = first[level]
        attempts = pair.attempts[:level]
        found += [(pair, attempt) for attempt in attempts[-2 if level == 2 else -1 :]]
    return found


def attempt_json(one: Attempt, max_attempts: int, whole: Annotation) -> dict[str, object]:
    kept = ("pair_id", "number", "order", "seed", "choice", "agreed", "text", "truncated")
    fields = asdict(one)
    return {
        **{name: fields[name] for name in kept},
        "wellFormed": one.well_formed,
        "tokens": one.completion_tokens,
        "failed": whole.difficulty == max_attempts + 1,
        "numAttempts": min(len(whole.attempts), max_attempts),
    }
