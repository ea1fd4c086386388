"""MM-RLHF (yifanzhang114/MM-RLHF): rankings of several responses, or the pairs made of them.

data.jsonl (Parquet on the hub): id, question, image or video, and as parallel lists models_output,
faithfulness, helpfulness, ethical (scores, higher is better), final_ranking. dpo_pairs.jsonl: prompt,
chosen, rejected, image or video. Media are paths into the archives that are published beside them.
Which end of final_ranking is the best is not said anywhere: the scores of a file's first rows tell.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import combinations, islice
from pathlib import Path, PurePosixPath

from r1reward.data.importers import fields
from r1reward.data.importers.mm_rlhf_rewardbench import path_category
from r1reward.data.importers.rankings import Candidate, pairs_of
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source, source_files
from r1reward.data.stores.row_files import Row, numbered_rows
from r1reward.errors import DataError
from r1reward.recipe.choices import Pairing

NAME = "mm-rlhf"
SUFFIXES = (".parquet", ".jsonl")
SCORES = ("faithfulness", "helpfulness", "ethical")
FOLDERS = ("short", "long", "mcq", "safety")
# A ranking is turned around if two thirds of the rows whose scores tell say so, of ten at least.
DIRECTION_ROWS, MIN_DIRECTION_ROWS, MAX_SCANNED_ROWS = 500, 10, 5_000
TURNED_NOTE = "final_ranking read with 1 as the worst"


def read_mm_rlhf(src: Path, pairing: Pairing = "all") -> RawPairs:
    """Yields the pairs of one of the files; of a folder those of data.jsonl if it is there, as it also
    knows ties.
    """
    parts = (src / "data.jsonl", src / "dpo_pairs.jsonl")
    for file in source_files(next(filter(Path.is_file, parts), src), SUFFIXES):
        read = partial(read_row, pairing=pairing, best_is_1=is_1_best(file))
        yield from read_source(file, SUFFIXES, read)


def read_row(row: Row, origin: str, pairing: Pairing, best_is_1: bool) -> RawPairs:
    images, video = fields.media_paths(row)
    question = fields.text(row, "question" if "models_output" in row else "prompt")
    asked = RawPair(
        origin,
        question,
        response_1="",
        response_2="",
        preferred=1,
        images=images,
        video=video,
        source=NAME,
        category=training_category(video or images[0]),
        group=fields.group_of(question, *images, video),
    )
    if "models_output" not in row:
        chosen, rejected = fields.text(row, "chosen"), fields.text(row, "rejected")
        yield replace(asked, response_1=chosen, response_2=rejected)
        return
    responses = row["models_output"]
    if not isinstance(responses, list):
        raise DataError("models_output must be a list of texts")
    named = {f"response {number}": response for number, response in enumerate(responses, start=1)}
    ranks = numbers(row, "final_ranking", len(responses))
    refuse_reversed(row, ranks, best_is_1)
    candidates = [
        Candidate(number, fields.text(named, name), -rank if best_is_1 else rank)
        for number, (name, rank) in enumerate(zip(named, ranks, strict=True), start=1)
    ]
    meta = {"id": fields.text_or_empty(row, "id")}
    notes = () if best_is_1 else (TURNED_NOTE,)
    yield from pairs_of(replace(asked, meta=meta, notes=notes), candidates, pairing)


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
        if isinstance(row, DataError) or not isinstance(row.get("models_output"), list):
            continue
        with suppress(DataError):  # a broken row is named when it is read
            ranks = numbers(row, "final_ranking", len(row["models_output"]))
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
        with suppress(DataError):
            columns.append(numbers(row, name, count))
    return columns


def refuse_reversed(row: Row, ranks: list[float], best_is_1: bool) -> None:
    """Raises ``DataError`` for a ranking that mostly runs against the people's own scores: one of them
    is a mistake.
    """
    along, against = agreement(row, ranks)
    if not best_is_1:
        along, against = against, along
    if against > along:
        turned = "" if best_is_1 else ", with 1 as the worst,"
        raise DataError(
            f"final_ranking {ranks}{turned} runs against the scores in {against} of "
            f"{against + along} pairs"
        )


def numbers(row: Row, name: str, count: int) -> list[float]:
    """Returns a list with one number for each response."""
    values = row.get(name)
    if not isinstance(values, list) or len(values) != count:
        raise DataError(f"{name} must be a list of {count} numbers, one for each response")
    return [fields.number(value, name) for value in values]
