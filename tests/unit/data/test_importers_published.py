"""Each importer on invented rows in its source's published shape, and on one it cannot use."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.data.importers.mm_rlhf import read_mm_rlhf
from r1reward.data.importers.mm_rlhf_rewardbench import read_mm_rlhf_rewardbench
from r1reward.data.importers.multimodal_rewardbench import read_multimodal_rewardbench
from r1reward.data.importers.povid import read_povid
from r1reward.data.importers.r1_reward_rl import read_answer, read_r1_reward_rl, split_prompt
from r1reward.data.importers.raw_pair import RawPair
from r1reward.data.importers.rlaif_v import read_rlaif_v
from r1reward.data.importers.vl_feedback import read_vl_feedback
from r1reward.data.importers.vl_rewardbench import read_vl_rewardbench
from r1reward.data.importers.wildvision import read_wildvision
from r1reward.errors import DataError

PICTURE = b"\x89PNG not opened by importers"
ENCODED = base64.b64encode(PICTURE).decode()
Row = dict[str, object]
Reader = Callable[[Path], Iterator[RawPair | DataError]]


def jsonl(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def pairs(read: Reader, path: Path) -> list[RawPair]:
    found = list(read(path))
    assert all(isinstance(item, RawPair) for item in found), found
    return [item for item in found if isinstance(item, RawPair)]


def broken(read: Reader, path: Path) -> tuple[str, str]:
    """Where (file's name and row) and why of the only thing read."""
    (item,) = read(path)
    assert isinstance(item, DataError)
    origin, _, reason = str(item).removeprefix(f"{path.parent}/").partition(": ")
    return origin, reason


VL_ROW: Row = {
    "id": "RLAIF-V-1",
    "query": "What is it?",
    "response": ["A cat.", "A dog."],
    "image": {"bytes": PICTURE, "path": None},
    "human_ranking": [1, 0],
    "models": ["m1", "m2"],
    "judge": "x",
    "rationale": "y",
    "query_source": "RLAIF-V",
}


def test_vl_rewardbench(tmp_path: Path) -> None:
    path = parquet(tmp_path / "data" / "test-00000-of-00001.parquet", VL_ROW)
    assert pairs(read_vl_rewardbench, tmp_path) == [
        RawPair(
            origin=f"{path} row 1",
            question="What is it?",
            response_1="A cat.",
            response_2="A dog.",
            preferred=2,
            images=(PICTURE,),
            source="vl-rewardbench",
            category="hallucination",
            group="RLAIF-V-1",
            meta={"models": ["m1", "m2"], "query_source": "RLAIF-V"},
        )
    ]


def test_vl_rewardbench_as_train_and_test_is_read_once(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", VL_ROW)
    parquet(tmp_path / "data" / "test-00000-of-00002.parquet", VL_ROW)
    parquet(tmp_path / "data" / "test-00001-of-00002.parquet", VL_ROW | {"id": "mmmu_1"})
    found = pairs(read_vl_rewardbench, tmp_path)
    assert [pair.group for pair in found] == ["RLAIF-V-1", "mmmu_1"]


def test_a_broken_row_of_vl_rewardbench(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl", {"id": "mmmu_1", "prompt": "Why?", "chosen": "A.", "image": "a.png"}
    )
    assert broken(read_vl_rewardbench, path) == (
        "a.jsonl row 1",
        "rejected is missing or empty; fill it in or remove the row",
    )


MM_BENCH_ROW: Row = {
    "id": "7_1",
    "video": "video/7",
    "prompt": "What happens?",
    "chosen": "Rain.",
    "rejected": "Snow.",
    "chosen_reason": "It is wet.",
    "rejected_reason": "It is warm.",
}


def test_mm_rlhf_rewardbench(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", MM_BENCH_ROW, MM_BENCH_ROW | {"image": "mcq/1.png"})
    video, image = pairs(read_mm_rlhf_rewardbench, path)
    assert (video.images, video.video, video.category) == ((), "video/7", "video")
    assert (image.images, image.video, image.category) == (("mcq/1.png",), None, "mcq")
    assert (video.question, video.response_1, video.response_2) == (
        "What happens?",
        "Rain.",
        "Snow.",
    )
    assert (video.preferred, video.group) == (1, "7_1")
    assert video.meta == {"chosen_reason": "It is wet.", "rejected_reason": "It is warm."}


def test_a_broken_row_of_mm_rlhf_rewardbench(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", MM_BENCH_ROW | {"video": "clips/7"})
    assert broken(read_mm_rlhf_rewardbench, path) == (
        "a.jsonl row 1",
        "the path clips/7 names no category (mcq, long, short, safety, video)",
    )


MULTIMODAL_ROW: Row = {
    "ID": "MathVista_1",
    "Text": "How many?",
    "Image": "images/a.png",
    "Output1": "Two.",
    "Output2": "Three.",
    "Better": "Output2",
    "Category": "reasoning",
}


def test_multimodal_rewardbench(tmp_path: Path) -> None:
    path = tmp_path / "all_data.json"
    path.write_text(json.dumps([MULTIMODAL_ROW], indent=2))
    (pair,) = pairs(read_multimodal_rewardbench, path)
    assert (pair.question, pair.response_1, pair.response_2) == ("How many?", "Two.", "Three.")
    assert (pair.preferred, pair.images, pair.group) == (2, ("images/a.png",), "MathVista_1")
    assert (pair.category, pair.meta) == ("reasoning/math", {"area": "reasoning"})


def test_a_broken_row_of_multimodal_rewardbench(tmp_path: Path) -> None:
    path = tmp_path / "all_data.json"
    path.write_text(json.dumps([MULTIMODAL_ROW | {"Better": "A"}]))
    assert broken(read_multimodal_rewardbench, path) == (
        "all_data.json row 1",
        "Better is 'A'; it must be Output1 or Output2",
    )


PROMPT = (
    "Compare two responses. A tie is not allowed.\n\n"
    "#### **Input:**  \n"
    "#### [Question]:\nWhat is it?\nBe brief.  \n\n"
    "#### [Response 1]:\n# A cat\n\nIt sleeps.  \n\n"
    "#### [Response 2]:\nA dog.  \n\n"
)
SKELETON = "#### **Output Format (strictly follow):**  \n<think>...</think><answer>1/2</answer>"


def chat(text: str, image: str | None = "images/a.jpg") -> str:
    content: list[Row] = [{"type": "text", "text": text}]
    if image is not None:
        content.append({"type": "image", "image": image})
    return json.dumps([{"role": "user", "content": content}])


@pytest.mark.parametrize("end", ["", SKELETON])
def test_r1_reward_rl_as_jsonl(tmp_path: Path, end: str) -> None:
    row: Row = {
        "message": chat(PROMPT + end),
        "question": "What is it?\nBe brief.",
        "answer": ["<answer>2</answer>"],
    }
    (pair,) = pairs(read_r1_reward_rl, jsonl(tmp_path / "a.jsonl", row))
    assert pair.question == "What is it?\nBe brief."
    assert (pair.response_1, pair.response_2) == ("# A cat\n\nIt sleeps.", "A dog.")
    assert (pair.preferred, pair.images) == (2, ("images/a.jpg",))


def test_r1_reward_rl_as_parquet(tmp_path: Path) -> None:
    row: Row = {
        "question": "What is it?",
        "message": chat(PROMPT, "/far/away/a.jpg"),
        "answer": ["<answer>1</answer>"],
        "image": base64.b64encode(PICTURE * 50).decode(),
    }
    other = row | {"message": chat(PROMPT.replace("A dog", "A fox"), "/far/away/a.jpg")}
    path = parquet(tmp_path / "data" / "train-00000-of-00002.parquet", row, other)
    first, second = pairs(read_r1_reward_rl, tmp_path)
    assert first.origin == f"{path} row 1"
    assert (first.preferred, first.images) == (1, (PICTURE * 50,))
    assert second.response_2 == "A fox."
    assert first.group == second.group != ""


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("imgs/abc.jpg", "imgs/abc.jpg"),
        ("data:image/png;base64," + base64.b64encode(PICTURE).decode(), PICTURE),
        ({"bytes": None, "path": "imgs/abc.jpg"}, "imgs/abc.jpg"),
        ("data:image/jpeg;base64," + ENCODED, PICTURE),
        (ENCODED, ENCODED),  # a path could be so short: whether a file is there, decides
        (base64.encodebytes(PICTURE * 90).decode(), PICTURE * 90),  # in lines
        ("data:image/png;base64,\n" + base64.encodebytes(PICTURE * 9).decode(), PICTURE * 9),
        (base64.b64encode(b"unknown" * 900).decode(), b"unknown" * 900),  # no path is so long
        ("imgs/my_picture", "imgs/my_picture"),
        ("imgs/abcdefg", "imgs/abcdefg"),  # could be base64, of no image
    ],
)
def test_the_image_of_r1_reward_rl_counts_before_that_of_the_chat(
    tmp_path: Path, image: object, expected: str | bytes
) -> None:
    (pair,) = pairs(read_r1_reward_rl, jsonl(tmp_path / "a.jsonl", R1_ROW | {"image": image}))
    assert pair.images == (expected,)


def test_the_evaluation_prompt_of_r1_reward_is_read_back() -> None:
    prompt = (PROMPT + SKELETON).replace("####", "######")
    assert split_prompt(prompt) == ("What is it?\nBe brief.", "# A cat\n\nIt sleeps.", "A dog.")


def test_a_response_may_speak_of_an_output_format() -> None:
    prompt = PROMPT.replace("A dog.", "#### **Output Format** of dogs\nA dog.") + SKELETON
    assert split_prompt(prompt)[2] == "#### **Output Format** of dogs\nA dog."


R1_ROW: Row = {"message": chat(PROMPT), "answer": "1"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answer": ["3"]}, "answer is '3'; it must be 1 or 2"),
        ({"answer": None}, "answer is None; it must be 1 or 2"),
        ({"message": "{"}, "message is not JSON: "),
        ({"message": "[]"}, "message has 0 turns of a user; it must have one"),
        ({"message": chat("Compare them.")}, "the headings of the prompt are not there; they"),
        (
            {"message": chat(PROMPT + "#### [Response 2]:\nA fox.")},
            "the headings of the prompt are Question, Response 1, Response 2, Response 2; they",
        ),
        ({"message": chat(PROMPT.replace("A dog.", ""))}, "Response 2 is empty in the prompt"),
        ({"image": "data:image/png;base64,no!"}, "image is neither a path nor base64"),
        ({"image": "no base64!" * 500}, "image is neither a path nor base64"),
    ],
)
def test_a_broken_row_of_r1_reward_rl(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    assert pairs(read_r1_reward_rl, jsonl(tmp_path / "whole.jsonl", R1_ROW))
    origin, found = broken(read_r1_reward_rl, jsonl(tmp_path / "a.jsonl", R1_ROW | changes))
    assert origin == "a.jsonl row 1"
    assert found.startswith(reason)


RANKED_ROW: Row = {
    "id": "12",
    "question": "Describe it.",
    "answer": None,
    "image": "long/12.png",
    "video": None,
    "models_output": ["Good.", "Bad.", "Also good."],
    "faithfulness": [5, 1, 5],
    "helpfulness": [4, 2, 4],
    "ethical": [5, 5, 5],
    "final_ranking": [1, 3, 1],
    "score_reasons": ["a", "b", "c"],
    "ranking_reason": "d",
}


def test_mm_rlhf_rankings(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.jsonl", RANKED_ROW)
    jsonl(tmp_path / "dpo_pairs.jsonl", {"prompt": "not read"})
    found = pairs(read_mm_rlhf, tmp_path)
    assert [(pair.response_1, pair.response_2, pair.preferred) for pair in found] == [
        ("Good.", "Bad.", 1),
        ("Good.", "Also good.", None),
        ("Bad.", "Also good.", 2),
    ]
    assert found[0].origin == f"{path} row 1 responses 1 and 2"
    assert {pair.images for pair in found} == {("long/12.png",)}
    assert len({pair.group for pair in found}) == 1
    assert (found[0].category, found[0].meta["id"]) == ("long", "12")
    assert len(list(read_mm_rlhf(path, "extremes"))) == 1


def test_mm_rlhf_pairs(tmp_path: Path) -> None:
    row: Row = {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "video": "video/3"}
    jsonl(tmp_path / "dpo_pairs.jsonl", row)
    (pair,) = pairs(read_mm_rlhf, tmp_path)
    assert (pair.question, pair.response_1, pair.response_2) == ("Why?", "So.", "No.")
    assert (pair.preferred, pair.video, pair.category) == (1, "video/3", "video")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"final_ranking": [3, 1, 3]},
            "final_ranking [3.0, 1.0, 3.0] runs against the scores in 2 of 2 pairs",
        ),
        (
            {"final_ranking": [1, 2]},
            "final_ranking must be a list of 3 numbers, one for each response",
        ),
        ({"final_ranking": [1, 2, "?"]}, "final_ranking is '?'; it must be a number"),
        ({"models_output": "Good."}, "models_output must be a list of texts"),
        (
            {"models_output": ["Good.", "", "Also good."]},
            "response 2 is missing or empty; fill it in or remove the row",
        ),
        ({"image": None}, "neither image nor video is there; fill one in or remove the row"),
    ],
)
def test_a_broken_row_of_mm_rlhf(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    path = jsonl(tmp_path / "data.jsonl", RANKED_ROW | changes)
    assert broken(read_mm_rlhf, path) == ("data.jsonl row 1", reason)


RLAIF_ROW: Row = {
    "ds_name": "RLAIF-V",
    "image": {"bytes": PICTURE, "path": "a.jpg"},
    "question": "Where is it?",
    "chosen": "Here.",
    "rejected": "There.",
    "origin_dataset": "coco",
    "origin_split": '{"model": "m"}',
    "idx": "0",
    "image_path": "a.jpg",
}


def test_rlaif_v(tmp_path: Path) -> None:
    path = parquet(tmp_path / "RLAIF-V-Dataset_000.parquet", RLAIF_ROW)
    (pair,) = pairs(read_rlaif_v, tmp_path)
    assert pair.origin == f"{path} row 1"
    assert (pair.question, pair.response_1, pair.response_2) == ("Where is it?", "Here.", "There.")
    assert (pair.preferred, pair.images, pair.category) == (1, (PICTURE,), "coco")
    assert pair.meta == {
        "ds_name": "RLAIF-V",
        "origin_split": '{"model": "m"}',
        "idx": "0",
        "image_path": "a.jpg",
    }


def test_a_broken_row_of_rlaif_v(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", RLAIF_ROW | {"image": None})
    assert broken(read_rlaif_v, path) == (
        "a.parquet row 1",
        "image is missing; fill it in or remove the row",
    )


def annotations(*ratings: str) -> Row:
    aspects = ("Helpfulness", "Ethical Considerations", "Visual Faithfulness")
    return {
        aspect: {"Rating": rating, "Rationale": "because"}
        for aspect, rating in zip(aspects, ratings, strict=True)
    }


FEEDBACK_ROW: Row = {
    "id": "svit-1",
    "prompt": "What is it?",
    "models": ["m1", "m2", "m3"],
    "completions": {
        "annotations": [
            annotations("3", "5", "4"),
            annotations("N/A", "5", "5"),
            annotations("4", "5", "4"),
        ],
        "model": ["m1", "m2", "m3"],
        "response": ["A cat.", "A fox.", "A dog."],
    },
    "img_path": "merged_images/1.jpg",
}


def test_vl_feedback(tmp_path: Path) -> None:
    path = parquet(tmp_path / "train.parquet", FEEDBACK_ROW)
    unrated, pair = read_vl_feedback(tmp_path)
    why = "Helpfulness is 'N/A'; it must be a number"
    assert str(unrated) == f"{path} row 1 response 2: {why}"
    assert isinstance(pair, RawPair)
    assert (pair.question, pair.response_1, pair.response_2) == ("What is it?", "A cat.", "A dog.")
    assert (pair.preferred, pair.images) == (2, ("merged_images/1.jpg",))
    assert pair.meta == {
        "id": "svit-1",
        "responses": [1, 3],
        "scores": [4.0, 13 / 3],
        "models": ["m1", "m3"],
    }


def test_vl_feedback_with_a_list_of_completions_and_images_inside(tmp_path: Path) -> None:
    completions = [
        {"annotations": annotations("5", "5", "5"), "model": "m1", "response": "A cat."},
        {"annotations": annotations("5", "5", "5"), "model": "m2", "response": "A dog."},
    ]
    row = FEEDBACK_ROW | {
        "completions": completions,
        "image": {"bytes": PICTURE, "path": None},
        "img_path": None,
    }
    (pair,) = pairs(read_vl_feedback, parquet(tmp_path / "a.parquet", row))
    assert (pair.preferred, pair.images) == (None, (PICTURE,))


def test_a_broken_row_of_vl_feedback(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", FEEDBACK_ROW | {"completions": {"response": ["A cat."]}})
    assert broken(read_vl_feedback, path) == (
        "a.jsonl row 1",
        "annotations and response in completions must be lists of one length",
    )


def turns(*said: str) -> list[Row]:
    return [
        {"from": ("human", "gpt")[place % 2], "value": words} for place, words in enumerate(said)
    ]


POVID_ROW: Row = {
    "id": "COCO_1",
    "image": "./data/coco/1.jpg",
    "conversations": turns("<image>\nDescribe it.", "A <image> of a cat."),
    "rejected_conversations": turns("<image>\nDescribe it.", "A dog."),
}


def test_povid(tmp_path: Path) -> None:
    longer = POVID_ROW | {
        "conversations": turns("<image>\nHi.", "Hello.", "Colour?", "Red."),
        "rejected_conversations": turns("<image>\nHi.", "Hello.", "Colour?", "Blue."),
    }
    path = tmp_path / "POVID_preference_data_for_VLLMs_version_1.json"
    path.write_text(json.dumps([POVID_ROW, longer]))
    one, two = pairs(read_povid, tmp_path)
    assert (one.question, one.response_1, one.response_2) == (
        "Describe it.",
        "A <image> of a cat.",
        "A dog.",
    )
    assert (one.preferred, one.images, one.meta) == (1, ("./data/coco/1.jpg",), {"id": "COCO_1"})
    assert two.question == "user: Hi.\n\nassistant: Hello.\n\nuser: Colour?"
    assert (two.response_1, two.response_2) == ("Red.", "Blue.")


@pytest.mark.parametrize(
    ("rejected", "reason"),
    [
        (None, "a conversation is missing or empty; fill it in or remove the row"),
        (turns("Other?", "A dog."), "the conversations differ before their last reply: they"),
        (turns("Describe it.", ""), "value of a turn is missing or empty"),
        (turns("Describe it.", "A.", "B?"), "a conversation must end with a reply"),
        ([{"from": "cat", "value": "A."}] * 2, "from of a turn must be one of human, user, gpt"),
    ],
)
def test_a_broken_row_of_povid(tmp_path: Path, rejected: object, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([POVID_ROW | {"rejected_conversations": rejected}]))
    origin, found = broken(read_povid, path)
    assert origin == "a.json row 1"
    assert found.startswith(reason)


def battle(winner: str, **changes: object) -> Row:
    row: Row = {
        "question_id": "q1",
        "model_a": "m1",
        "model_b": "m2",
        "conversation_a": said("What is it?", "A cat."),
        "conversation_b": said("What is it?", "A dog."),
        "language": "English",
        "image": {"bytes": PICTURE, "path": None},
        "turn": 1,
        "anony": True,
        "winner": winner,
        "tstamp": 0,
        "judge": "arena_user_1",
    }
    return row | changes


def said(question: str, reply: str) -> list[Row]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


def test_wildvision(tmp_path: Path) -> None:
    winners = ("model_a", "model_b", "tie", "tie (bothbad)")
    parquet(tmp_path / "battle" / "test-0.parquet", *(battle(winner) for winner in winners))
    found = pairs(read_wildvision, tmp_path)
    assert [pair.preferred for pair in found] == [1, 2, None, None]
    first = found[0]
    assert (first.question, first.response_1, first.response_2) == (
        "What is it?",
        "A cat.",
        "A dog.",
    )
    assert (first.images, first.group, first.category) == ((PICTURE,), "q1", "")
    assert first.meta == {
        "model_a": "m1",
        "model_b": "m2",
        "winner": "model_a",
        "language": "English",
        "turn": 1,
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (battle("m1"), "winner is 'm1'; it must be one of model_a, model_b, tie, tie (bothbad)"),
        (battle("tie", image=None), "image is missing; fill it in or remove the row"),
        (
            battle("tie", conversation_b=said("What is it?", "A dog.")[:1]),
            "a conversation must end with a reply",
        ),
        (
            battle(
                "tie",
                conversation_a=said("Hi.", "Yes.") + said("What?", "A cat."),
                conversation_b=said("Hi.", "No.") + said("What?", "A dog."),
            ),
            "the conversations differ before their last reply: they are no pair",
        ),
    ],
)
def test_a_broken_row_of_wildvision(tmp_path: Path, row: Row, reason: str) -> None:
    path = parquet(tmp_path / "a.parquet", row)
    assert broken(read_wildvision, path) == ("a.parquet row 1", reason)


def test_an_answer_of_many_blanks_is_refused() -> None:
    """Regression: 20,000 blanks took three seconds, so this many would take ten minutes."""
    with pytest.raises(DataError, match="must be 1 or 2"):
        read_answer("1" + " " * 400_000 + "x")
