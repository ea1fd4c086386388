"""What a teacher did, for the page of a pipeline: counts, tokens, cost, and a few of its texts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r1reward.data.attempts import Annotation, Attempt, count_levels, read_annotations
from r1reward.report.charts import Chart
from r1reward.report.facts import Facts, whole
from r1reward.report.pipeline_charts import attempts_chart


@dataclass(frozen=True)
class ColdStart:
    """What the teacher did. ``attempts`` are a few of its texts, as the page's script shows them."""

    facts: Facts
    chart: Chart
    attempts: list[dict[str, object]]


def cold_start(path: Path, max_attempts: int | None) -> ColdStart | None:
    """Reads the teacher's attempts; None without a limit for them, or before the first."""
    if max_attempts is None or not path.is_file():
        return None
    annotations = list(read_annotations(path, max_attempts).values())
    return ColdStart(
        facts=attempt_facts(annotations),
        chart=attempts_chart(count_levels(annotations, max_attempts), max_attempts),
        attempts=[attempt_json(pair, one, max_attempts) for pair, one in samples(annotations)],
    )


def attempt_facts(annotations: Sequence[Annotation]) -> Facts:
    """Counts, tokens and cost. What a teacher does not say is not known, not zero."""
    attempts = [attempt for each in annotations for attempt in each.attempts]
    done = [each for each in annotations if each.difficulty is not None]
    agreed = sum(each.agreeing is not None for each in done)
    return {
        "Pairs": whole(len(annotations)),
        "Answers": whole(len(attempts)),
        "Pairs that the teacher agreed with": of_all(agreed, len(done)),
        "Unreadable answers": whole(sum(each.choice is None for each in attempts)),
        "Cut at the token limit": whole(sum(each.truncated for each in attempts)),
        "Prompt tokens": total([each.prompt_tokens for each in attempts]),
        "Written tokens": total([each.completion_tokens for each in attempts]),
        "Cost": total([each.cost for each in attempts], "not known: no prices, or no token counts"),
    }


def of_all(count: int, num_all: int) -> str:
    """Returns a count and its share of all."""
    share = f" ({100 * count / num_all:.1f}\u00a0%)" if num_all else ""
    return f"{whole(count)}{share}"


def total(values: Sequence[int | float | None], nothing: str = "not told by the teacher") -> str:
    """Returns the sum of what is known, and how many answers it is of unless it is of all."""
    known = [value for value in values if value is not None]
    if not known:
        return nothing
    amount = sum(known)
    text = f"{amount:.2f}" if isinstance(amount, float) else whole(amount)
    return text if len(known) == len(values) else f"{text}, of {len(known)} answers"


def samples(annotations: Sequence[Annotation]) -> list[tuple[Annotation, Attempt]]:
    """Of the first pair of each level its last attempt, and of the second level the one before it."""
    first: dict[int, Annotation] = {}
    for annotation in annotations:
        if annotation.difficulty is not None:
            first.setdefault(annotation.difficulty, annotation)
    levels = sorted(first)
    chosen: list[tuple[Annotation, Attempt]] = []
    for level in [*levels[:4], *levels[4:][-1:]]:
        pair = first[level]
        attempts = pair.attempts[:level]
        chosen += [(pair, attempt) for attempt in attempts[-2 if level == 2 else -1 :]]
    return chosen


def attempt_json(pair: Annotation, attempt: Attempt, max_attempts: int) -> dict[str, object]:
    """An attempt with how the pair went on, as the page's script shows it."""
    return {
        **asdict(attempt),
        "failed": pair.difficulty == max_attempts + 1,
        "num_attempts": min(len(pair.attempts), max_attempts),
    }
