"""Rows for the browser of samples: texts, pictures and every vote, as many as the size allows."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.shown_pairs import ShownPair
from r1reward.report.embed import data_uri, script_json
from r1reward.types import Slot

# Token ids and log-probs, most of the file, stay where they are.
ROLLOUT_COLUMNS = [
    *("order", "sample_index", "seed", "label", "prompt", "text", "choice", "well_formed"),
    *("reward", "consistency", "judge_word", "finish_reason"),
]
ROLLOUTS_A_STEP = 4


@dataclass(frozen=True)
class Samples:
    """``rows`` of the ``num_rows`` that were answered; ``images`` are data URIs rows point into.

    ``num_unknown`` counts answered rows whose pair is not in pairs.parquet.
    """

    rows: list[dict[str, object]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    num_rows: int = 0
    num_unknown: int = 0


def collect_samples(
    pairs: Sequence[ShownPair], answers: Sequence[Answer], max_bytes: int, max_rows: int
) -> Samples:
    """Rows in the benchmark's order. Errors and flips are the last to be left out for size."""
    by_item: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_item[answer.item].append(answer)
    asked = [(pair, by_item[pair.key]) for pair in pairs if pair.key in by_item]
    flags = [row_flags(pair, votes) for pair, votes in asked]
    image_numbers: dict[bytes, int] = {}
    chosen: dict[int, dict[str, object]] = {}
    spent = 0
    for number in sorted(range(len(asked)), key=lambda i: importance(flags[i])):
        pair, votes = asked[number]
        row = row_json(pair, votes, flags[number])
        new = [image for image in dict.fromkeys(pair.thumbnails) if image not in image_numbers]
        size = len(script_json(row).encode())
        size += sum(len(image) * 4 // 3 + 30 for image in new)
        if spent + size > max_bytes or len(chosen) == max_rows:
            continue
        spent += size
        for image in new:
            image_numbers[image] = len(image_numbers)
        row["images"] = [image_numbers[image] for image in pair.thumbnails]
        chosen[number] = row
    return Samples(
        rows=[chosen[number] for number in sorted(chosen)],
        images=[data_uri(image) for image in image_numbers],
        num_rows=len(by_item),
        num_unknown=len(by_item) - len(asked),
    )


def importance(flags: Sequence[str]) -> int:
    """Returns 0 for the rows that are kept first, 2 for those that are left out first."""
    if "error" in flags or "flip" in flags:
        return 0
    return 1 if flags else 2


def row_flags(pair: ShownPair, answers: Sequence[Answer]) -> list[str]:
    """Which filters a row stands under.

    error: the vote is wrong, tied or empty. flip: the majorities of the two orders are for
    different responses. unreadable: an answer is. split: both responses got votes. A row that is missing
    an answer counts nowhere and stands under no other filter.
    """
    if any(answer.is_missing for answer in answers):
        return ["missing"]
    choices = [answer.response for answer in answers]
    stored, swapped = (
        winner([answer.response for answer in answers if answer.order == order])
        for order in ("stored", "swapped")
    )
    flags = {
        "error": winner(choices) != pair.preferred,
        "flip": stored is not None and swapped is not None and stored != swapped,
        "unreadable": None in choices,
        "split": {1, 2} <= set(choices),
    }
    return [name for name, holds in flags.items() if holds]


def winner(votes: Sequence[Slot | None]) -> Slot | None:
    """The response with more votes; None for a tie."""
    margin = votes.count(1) - votes.count(2)
    if margin == 0:
        return None
    return 1 if margin > 0 else 2


def row_json(pair: ShownPair, answers: Sequence[Answer], flags: Sequence[str]) -> dict[str, object]:
    """A row without its pictures."""
    ordered = sorted(answers, key=lambda answer: (answer.order, answer.sample_index))
    fields = asdict(pair)
    del fields["thumbnails"]
    votes = [vote_json(answer, pair.preferred) for answer in ordered]
    return {**fields, "flags": list(flags), "votes": votes}


def vote_json(answer: Answer, preferred: Slot) -> dict[str, object]:
    """An answer and what it is worth. Its row is known from where it stands."""
    fields = asdict(answer)
    del fields["item"]
    return {**fields, "response": answer.response, "right": answer.response == preferred}


def training_rollouts(folder: Path) -> list[dict[str, object]]:
    """A few rollouts of the first, the middle and the last saved step."""
    files = sorted(folder.glob("step-*.parquet"))
    picked = sorted({0, len(files) // 2, len(files) - 1}) if files else []
    return [row for number in picked for row in step_rollouts(files[number])]


def step_rollouts(path: Path) -> list[dict[str, object]]:
    """A few rollouts of one saved step."""
    table = pq.read_table(path, columns=ROLLOUT_COLUMNS)
    # From the first row to the last, so that an even stride cannot pick one order only.
    ends = ROLLOUTS_A_STEP - 1
    numbers = sorted({i * (table.num_rows - 1) // ends for i in range(ROLLOUTS_A_STEP)})
    step = int(path.stem.removeprefix("step-"))
    return [{"step": step, **rollout_json(row)} for row in table.take(numbers).to_pylist()]


def rollout_json(row: dict[str, object]) -> dict[str, object]:
    """A rollout in the fields of a vote. Its slots are as shown; there is no stored response."""
    right = row["choice"] == row["label"]
    return {**row, "right": right, "truncated": row["finish_reason"] == "length"}
