"""MM-RLHF (yifanzhang114/MM-RLHF): rankings of several responses, or the pairs made of them.

data.jsonl (Parquet on the hub): id, question, image or video, and as parallel lists models_output,
faithfulness, helpfulness, ethical (scores, higher is better), final_ranking. dpo_pairs.jsonl: prompt,
chosen, rejected, image or video. Media are paths into the archives that are published beside them.
Which end of final_ranking is the best is not said anywhere: the scores of a file's first rows tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations, islice
from pathlib import Path, PurePosixPath

from r1reward.data.importers import fields
from r1reward.data.importers.fields import FieldError, Row
from r1reward.data.importers.files import numbered_rows, read_source, source_files
from r1reward.data.importers.mm_rlhf_rewardbench import path_category
from r1reward.data.importers.rankings import Candidate, Pairing, Ranking, pairs_of
from r1reward.data.importers.raw_pair import Broken, RawPair

NAME = "mm-rlhf"
SUFFIXES = (".parquet", ".jsonl")
SCORES = ("faithfulness", "helpfulness", "ethical")
FOLDERS = ("short", "long", "mcq", "safety")
# A ranking is turned around if two thirds of the rows whose scores tell say so, of ten at least.
DIRECTION_ROWS, MIN_DIRECTION_ROWS, MAX_SCANNED_ROWS = 500, 10, 5_000
TURNED_NOTE = "final_ranking read with 1 as the worst"


def read_mm_rlhf(src: Path, pairing: Pairing = "all") -> Iterator[RawPair | Broken]:
    """Yields the pairs of one of the files; of a folder those of data.jsonl if it is there, as it also
    knows ties.
    """
    rankings = src / "data.jsonl"
    if rankings.is_file():
        src = rankings
    elif (src / "dpo_pairs.jsonl").is_file():
        src = src / "dpo_pairs.jsonl"
    for file in source_files(src, SUFFIXES):
        best_is_1 = is_1_best(file)
        yield from read_source(
            file, SUFFIXES, partial(read_row, pairing=pairing, best_is_1=best_is_1)
        )


def read_row(row: Row, origin: str, pairing: Pairing, best_is_1: bool) -> Iterator[RawPair]:
    images, video = fields.media_paths(row)
    category = training_category(video or images[0])
    if "models_output" not in row:
        question = fields.text(row, "prompt")
        yield RawPair(
            origin=origin,
            question=question,
            response_1=fields.text(row, "chosen"),
            response_2=fields.text(row, "rejected"),
            preferred=1,
            images=images,
            video=video,
            source=NAME,
            category=category,
            group=fields.group_of(question, *images, video),
        )
        return
    question = fields.text(row, "question")
    responses = row["models_output"]
    if not isinstance(responses, list):
        raise FieldError("models_output must be a list of texts")
    named = {f"response {number}": response for number, response in enumerate(responses, start=1)}
    ranks = numbers(row, "final_ranking", len(responses))
    refuse_reversed(row, ranks, best_is_1)
    yield from pairs_of(
        Ranking(
            origin=origin,
            question=question,
            candidates=[
                Candidate(number, fields.text(named, name), -rank if best_is_1 else rank)
                for number, (name, rank) in enumerate(zip(named, ranks, strict=True), start=1)
            ],
            images=images,
            video=video,
            source=NAME,
            category=category,
            group=fields.group_of(question, *images, video),
            meta={"id": fields.text_or_empty(row, "id")},
            notes=() if best_is_1 else (TURNED_NOTE,),
        ),
        pairing,
    )


def training_category(path: str) -> str:
    """Returns the path's first folder if it names one, else as in the benchmark."""
    first = PurePosixPath(path).parts[:1]
    return first[0] if first and first[0] in FOLDERS else path_category(path)


def is_1_best(file: Path) -> bool:
    """Returns whether the scores of a file's first rows agree with rank 1 as the best; True where they
    do not tell.
    """
    votes = list(islice(direction_votes(file), DIRECTION_ROWS))
    num_against = votes.count(False)
    return len(votes) < MIN_DIRECTION_ROWS or 3 * num_against < 2 * len(votes)


def direction_votes(file: Path) -> Iterator[bool]:
    """Yields for each row whose scores tell whether rank 1 is the best."""
    for _, row in islice(numbered_rows(file), MAX_SCANNED_ROWS):
        if isinstance(row, FieldError) or not isinstance(row.get("models_output"), list):
            continue
        try:
            ranks = numbers(row, "final_ranking", len(row["models_output"]))
        except FieldError:
            continue  # a broken row, named when it is read
        along, against = agreement(row, ranks)
        if along != against:
            yield along > against


def agreement(row: Row, ranks: list[float]) -> tuple[int, int]:
    """Returns in how many pairs of responses the people's own scores run along ranks from 1, and
    against them.
    """
    columns = usable_scores(row, len(ranks))
    totals = [sum(column[index] for column in columns) for index in range(len(ranks))]
    products = [
        (totals[first] - totals[second]) * (ranks[second] - ranks[first])
        for first, second in combinations(range(len(ranks)), 2)
    ]
    return sum(product > 0 for product in products), sum(product < 0 for product in products)


def usable_scores(row: Row, count: int) -> list[list[float]]:
    """Returns the lists with one score for each response. They only check the ranking: others are
    passed over.
    """
    columns = []
    for name in SCORES:
        try:
            columns.append(numbers(row, name, count))
        except FieldError:
            continue
    return columns


def refuse_reversed(row: Row, ranks: list[float], best_is_1: bool) -> None:
    """Raises ``FieldError`` for a ranking that mostly runs against the people's own scores: one of them
    is a mistake.
    """
    along, against = agreement(row, ranks)
    if not best_is_1:
        along, against = against, along
    if against > along:
        turned = "" if best_is_1 else ", with 1 as the worst,"
        raise FieldError(
            f"final_ranking {ranks}{turned} runs against the scores in {against} of "
            f"{against + along} pairs"
        )


def numbers(row: Row, name: str, count: int) -> list[float]:
    """Returns a list with one number for each response."""
    values = row.get(name)
    if not isinstance(values, list) or len(values) != count:
        raise FieldError(f"{name} must be a list of {count} numbers, one for each response")
    return [fields.number(value, name) for value in values]
