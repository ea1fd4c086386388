"""VLFeedback (MMInstruction/VLFeedback): responses of several models, rated in three aspects.

Columns: id, prompt, models, image (Parquet) or img_path, and completions: annotations, model and
response, as a list of structs or a struct of lists. Rows may have neither: the loader of the data set
makes the path of the id. A rating is text; its mean over the aspects is the score, as in the authors'
run_dpo.py.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from r1reward.data.importers import fields
from r1reward.data.importers.rankings import Candidate, pairs_of
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source
from r1reward.data.stores.row_files import Row
from r1reward.errors import DataError
from r1reward.recipe.choices import Pairing

NAME = "vl-feedback"
MERGED = "merged_images"
NO_ROWS = ("instruction_source.jsonl",)  # where the instructions come from


def read_vl_feedback(src: Path, pairing: Pairing = "all") -> RawPairs:
    """Yields the pairs of a file, or of a folder of files of one type; a response without its ratings
    is in no pair.
    """
    suffixes = (".parquet", ".jsonl", ".json")
    return read_source(src, suffixes, partial(read_row, pairing=pairing), NO_ROWS)


def read_row(row: Row, origin: str, pairing: Pairing) -> RawPairs:
    question = fields.text(row, "prompt")
    picture, elsewhere = find_image(row)
    rated = []
    for number, completion in enumerate(completions(row), start=1):
        try:
            score, response = mean_rating(completion), fields.text(completion, "response")
        except DataError as error:
            yield DataError(f"{origin} response {number}: {error}")
        else:
            model = fields.text_or_empty(completion, "model")
            rated.append(Candidate(number, response, score, model))
    asked = RawPair(
        origin,
        question,
        response_1="",
        response_2="",
        preferred=None,
        images=(picture,),
        elsewhere=elsewhere,
        source=NAME,
        group=fields.group_of(question, picture),
        meta={"id": fields.text_or_empty(row, "id")},
    )
    yield from pairs_of(asked, rated, pairing)


def find_image(row: Row) -> tuple[str | bytes, dict[str, str]]:
    """Returns the image, and where else to look: among the merged images and then beside them, by the
    id.
    """
    row_id = fields.text_or_empty(row, "id")
    if "image" not in row and not row.get("img_path") and row_id:
        merged = f"{MERGED}/{row_id}.jpg"
        return merged, {merged: f"{row_id}.jpg"}
    named = {"image or img_path": row.get("image") or row.get("img_path")}
    return fields.image(named, "image or img_path"), {}


def completions(row: Row) -> list[Mapping[str, object]]:
    """Returns the responses of a row with their models and annotations. Raises ``DataError``."""
    value = row.get("completions")
    if isinstance(value, Mapping):
        lists = {name: column for name, column in value.items() if isinstance(column, list)}
        lengths = {len(column) for column in lists.values()}
        if not {"annotations", "response"} <= set(lists) or len(lengths) != 1:
            raise DataError("annotations and response in completions must be lists of one length")
        return [
            {name: column[index] for name, column in lists.items()}
            for index in range(lengths.pop())
        ]
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise DataError("completions must be a list of structs, or a struct of lists")
    return value


def mean_rating(completion: Row) -> float:
    """Returns the mean of a response's ratings over the aspects. Raises ``DataError``."""
    annotations = completion.get("annotations")
    if not isinstance(annotations, Mapping) or not annotations:
        raise DataError("annotations are missing")
    ratings = [
        fields.number(annotation.get("Rating") if isinstance(annotation, Mapping) else None, aspect)
        for aspect, annotation in annotations.items()
    ]
    return sum(ratings) / len(ratings)
