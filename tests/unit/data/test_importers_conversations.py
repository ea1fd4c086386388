"""Preferences as messages, in every form that trainers read: one question, two replies, the images."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.data.importers.conversations import compare, messages_in, written_in
from r1reward.data.importers.formats import open_source
from r1reward.data.importers.known_columns import known_map
from r1reward.data.importers.raw_pair import RawPair
from r1reward.errors import DataError, InputError

CASES = Path(__file__).parents[2] / "cases"
Turn = dict[str, Any]


def user(content: object) -> Turn:
    return {"role": "user", "content": content}


def reply(content: object) -> Turn:
    return {"role": "assistant", "content": content}


def human(value: str) -> Turn:
    return {"from": "human", "value": value}


def gpt(value: str) -> Turn:
    return {"from": "gpt", "value": value}


Q, A, B = user("Why?"), reply("So."), reply("No.")
SYSTEM = {"role": "system", "content": "Be brief."}
EARLIER = [user("Hi."), reply("Hello.")]
LONG = "user: Hi.\n\nassistant: Hello.\n\nuser: Why?"
SHOWN = user([{"type": "image", "image": "a.png"}, {"type": "text", "text": "Why?"}])
URL = {"type": "image_url", "image_url": {"url": "a.png"}}

ROWS: list[tuple[str, Turn, str, tuple[str, ...]]] = [
    ("TRL, explicit prompt", {"prompt": [Q], "chosen": [A], "rejected": [B]}, "Why?", ()),
    ("TRL, implicit prompt", {"chosen": [Q, A], "rejected": [Q, B]}, "Why?", ()),
    ("prompt inside too", {"prompt": [Q], "chosen": [Q, A], "rejected": [Q, B]}, "Why?", ()),
    ("prompt inside of one", {"prompt": [Q], "chosen": [Q, A], "rejected": [B]}, "Why?", ()),
    ("prompt as text", {"prompt": "Why?", "chosen": [Q, A], "rejected": [Q, B]}, "Why?", ()),
    ("replies as turns", {"prompt": [Q], "chosen": A, "rejected": B}, "Why?", ()),
    ("replies as texts", {"prompt": [Q], "chosen": "So.", "rejected": "No."}, "Why?", ()),
    ("texts", {"prompt": "Why?", "chosen": "So.", "rejected": "No."}, "Why?", ()),
    (
        "several turns",
        {"prompt": [*EARLIER, Q], "chosen": [A], "rejected": [B]},
        LONG,
        (),
    ),
    (
        "last question as text",
        {"prompt": "Why?", "chosen": [*EARLIER, Q, A], "rejected": [*EARLIER, Q, B]},
        LONG,
        (),
    ),
    (
        "several turns behind the prompt",
        {
            "prompt": EARLIER[:1],
            "chosen": [EARLIER[1], Q, A],
            "rejected": [EARLIER[1], Q, B],
        },
        LONG,
        (),
    ),
    (
        "a system's turn",
        {"prompt": [SYSTEM, Q], "chosen": [A], "rejected": [B]},
        "system: Be brief.\n\nuser: Why?",
        (),
    ),
    (
        "an empty system's turn",
        {"prompt": [{**SYSTEM, "content": ""}, Q], "chosen": [A], "rejected": [B]},
        "Why?",
        (),
    ),
    (
        "LLaMA-Factory",
        {
            "conversations": [human("<image>Why?")],
            "chosen": gpt("So."),
            "rejected": gpt("No."),
            "images": ["a.png"],
        },
        "Why?",
        ("a.png",),
    ),
    (
        "ms-swift",
        {"messages": [*EARLIER, Q, A], "rejected_response": "No.", "images": ["a.png"]},
        LONG,
        ("a.png",),
    ),
    (
        "ms-swift, messages",
        {
            "messages": [Q, A],
            "rejected_messages": [Q, B],
            "images": [{"bytes": None, "path": "a.png"}],
        },
        "Why?",
        ("a.png",),
    ),
    (
        "OpenAI",
        {
            "input": {"messages": [Q], "tools": []},
            "preferred_output": [A],
            "non_preferred_output": [B],
        },
        "Why?",
        (),
    ),
    (
        "two whole conversations",
        {
            "conversations": [human("Why?"), gpt("So.")],
            "rejected_conversations": [human("Why?"), gpt("No.")],
        },
        "Why?",
        (),
    ),
    ("an image inside", {"prompt": [SHOWN], "chosen": [A], "rejected": [B]}, "Why?", ("a.png",)),
    (
        "an image inside of all three",
        {"prompt": [SHOWN], "chosen": [SHOWN, A], "rejected": [SHOWN, B]},
        "Why?",
        ("a.png",),
    ),
    (
        "an image inside of the conversations",
        {"prompt": [Q], "chosen": [SHOWN, A], "rejected": [SHOWN, B]},
        "Why?",
        ("a.png",),
    ),
    (
        "an image by its url",
        {"prompt": [user([{"type": "text", "text": "Why?"}, URL])], "chosen": [A], "rejected": [B]},
        "Why?",
        ("a.png",),
    ),
    (
        "a mark for an image beside the messages",
        {
            "prompt": [user([{"type": "image"}, {"type": "text", "text": "Why?"}])],
            "chosen": [reply([{"type": "text", "text": "So."}])],
            "rejected": [reply([{"type": "text", "text": "No."}])],
            "images": ["a.png"],
        },
        "Why?",
        ("a.png",),
    ),
    (
        "the same image inside and beside",
        {"prompt": [SHOWN], "chosen": [A], "rejected": [B], "images": ["a.png"]},
        "Why?",
        ("a.png",),
    ),
    (
        "images of several turns",
        {
            "prompt": [SHOWN, reply("?"), user([{**URL, "image_url": "b.png"}, {"text": "And?"}])],
            "chosen": [A],
            "rejected": [B],
        },
        "user: Why?\n\nassistant: ?\n\nuser: And?",
        ("a.png", "b.png"),
    ),
    (
        "our own names",
        {
            "question": "Why?",
            "response_1": "No.",
            "response_2": "So.",
            "preferred": 2,
            "images": [],
        },
        "Why?",
        (),
    ),
]


def read(path: Path, *rows: Turn) -> list[RawPair | DataError]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(open_source("jsonl", path, None))


@pytest.mark.parametrize(
    ("row", "question", "images"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_a_form_is_read_without_a_map(
    tmp_path: Path, row: Turn, question: str, images: tuple[str, ...]
) -> None:
    (pair,) = read(tmp_path / "a.jsonl", row)
    assert isinstance(pair, RawPair), pair
    assert (pair.question, pair.images) == (question, images)
    replies = [pair.response_1, pair.response_2]
    assert (replies[(pair.preferred or 0) - 1], sorted(replies)) == ("So.", ["No.", "So."])


def test_parquet_fills_the_keys_of_other_parts_with_nulls(tmp_path: Path) -> None:
    row = {"prompt": [SHOWN], "chosen": [reply([{"type": "text", "text": "So."}])], "rejected": [B]}
    row["rejected"] = [reply([{"type": "text", "text": "No."}])]
    other = {**row, "prompt": [user([{"type": "image"}, {"type": "text", "text": "Why?"}])]}
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.Table.from_pylist([{**row, "images": None}, {**other, "images": ["b.png"]}]), path
    )
    first, second = open_source("parquet", path, None)
    assert isinstance(first, RawPair) and isinstance(second, RawPair)
    assert (first.images, second.images) == (("a.png",), ("b.png",))
    assert first.question == second.question == "Why?"


def test_the_case_is_read_with_its_image() -> None:
    (pair,) = open_source("jsonl", CASES / "messages.jsonl", None)
    assert isinstance(pair, RawPair)
    assert (pair.question, pair.response_1, pair.response_2) == ("hi", "a", "b")
    assert (pair.images, pair.preferred) == (("plain.jpg",), 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": [Q], "chosen": [], "rejected": [B]}, None),
        ({"prompt": [Q], "chosen": [user("So.")], "rejected": [B]}, "a conversation must end with"),
        (
            {"prompt": [Q], "chosen": [user("Else?"), A], "rejected": [B]},
            "the conversations differ be",
        ),
        ({"chosen": [A], "rejected": [B]}, "there is no question before the replies"),
        (
            {"chosen": "Human: Why? Assistant: So.", "rejected": "..."},
            "the responses are no messages",
        ),
        (
            {"prompt": [A], "chosen": [A], "rejected": [B]},
            "the last turn but one is not a question",
        ),
        (
            {"prompt": [{"text": "Why?"}], "chosen": [A], "rejected": [B]},
            "a turn is an object of text;",
        ),
        (
            {"prompt": [{"role": "cat", "content": "?"}], "chosen": [A], "rejected": [B]},
            "role of a turn",
        ),
        (
            {"prompt": [user([{"type": "video", "video": "v"}])], "chosen": [A], "rejected": [B]},
            "a part of a turn is of type video; only texts and images are read",
        ),
        ({"prompt": [SHOWN], "chosen": [A], "rejected": [reply([URL])]}, "a reply shows an image"),
        (
            {"prompt": [SHOWN], "chosen": [A], "rejected": [B], "images": ["b.png"]},
            "images are inside of the messages and beside them",
        ),
        (
            {
                "prompt": [user("<image><image>Why?")],
                "chosen": [A],
                "rejected": [B],
                "images": ["a.png"],
            },
            "the messages show 2 images and the row has 1",
        ),
        (
            {
                "prompt": [user([{"type": "image"}, {"type": "text", "text": "?"}])],
                "chosen": A,
                "rejected": B,
            },
            "the messages show 1 images and the row has 0",
        ),
        (
            {"prompt": [user(7)], "chosen": [A], "rejected": [B]},
            "content of a turn is missing or empty",
        ),
        ({"prompt": ["Why?"], "chosen": [A], "rejected": [B]}, "a turn is text; it needs role and"),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, row: Turn, reason: str | None) -> None:
    if reason is None:
        with pytest.raises(InputError, match="do not say what they mean"):
            read(tmp_path / "a.jsonl", row)
        return
    (found,) = read(tmp_path / "a.jsonl", row)
    assert isinstance(found, DataError)
    assert str(found).startswith(f"{tmp_path}/a.jsonl row 1: {reason}"), found


@pytest.mark.parametrize(
    "row",
    [
        {"q": "Why?", "good": "So.", "bad": "No."},
        {"instruction": "Why?", "input": "", "chosen": "So."},
        {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "system": "Be brief."},
        {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "history": [["a", "b"]]},
        {"instruction": "Sum.", "chosen": "So.", "rejected": "No.", "system": "Be brief."},
    ],
)
def test_columns_that_are_not_known_are_listed(tmp_path: Path, row: Turn) -> None:
    assert known_map(row) is None
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a.jsonl", row)
    sentence = (
        f"{tmp_path}/a.jsonl: the names of its columns ({', '.join(row)}) do not say what they"
    )
    assert str(caught.value).startswith(sentence)
    assert "--columns question=COLUMN," in str(caught.value)


def test_earlier_turns_of_replies_are_compared_without_blanks() -> None:
    told = compare(None, [user("Hi. "), reply("Hello.\n"), Q, A], [*EARLIER, Q, B])
    assert told.texts == (LONG.replace("Hello.", "Hello.\n"), "So.", "No.")


def test_a_conversation_may_be_named_for_question_and_reply() -> None:
    whole = [*EARLIER, Q, A]
    assert compare(whole, whole, "No.").texts == compare(None, whole, [*EARLIER, Q, B]).texts


def test_rows_of_one_file_may_have_an_image_or_not(tmp_path: Path) -> None:
    row: Turn = {"prompt": [Q], "chosen": [A], "rejected": [B]}
    rows: list[Turn] = [
        row,
        {**row, "images": ["a.png"]},
        {**row, "image": "b.png"},
        {**row, "images": None},
    ]
    found = read(tmp_path / "a.jsonl", *rows)
    assert [pair.images for pair in found if isinstance(pair, RawPair)] == [
        (),
        ("a.png",),
        ("b.png",),
        (),
    ]


def test_what_may_belong_to_the_question_is_never_left_out_silently(tmp_path: Path) -> None:
    row = {"prompt": [Q], "chosen": [A], "rejected": [B], "system": ""}
    good, bad = read(tmp_path / "a.jsonl", row, {**row, "system": "Be brief."})
    assert isinstance(good, RawPair) and isinstance(bad, DataError)
    assert str(bad).endswith("row 2: column system may belong to the question: give a column map")


def test_an_instruction_stands_above_its_input(tmp_path: Path) -> None:
    row: Turn = {"instruction": "Sum up.", "input": "A text.", "chosen": "So.", "rejected": "No."}
    rows: list[Turn] = [row, {**row, "input": " "}, {**row, "input": None}]
    del rows[2]["input"]
    found = read(tmp_path / "a.jsonl", *rows)
    questions = [pair.question for pair in found if isinstance(pair, RawPair)]
    assert questions == ["Sum up.\nA text.", "Sum up.", "Sum up."]


def test_messages_with_an_input_beside_them_are_no_pair(tmp_path: Path) -> None:
    row: Turn = {"instruction": [Q], "input": "A text.", "chosen": [A], "rejected": [B]}
    (found,) = read(tmp_path / "a.jsonl", row)
    assert isinstance(found, DataError)
    assert str(found).endswith("text of column input cannot stand below messages")


def write_csv(path: Path, *rows: dict[str, str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("written", [json.dumps, repr], ids=["JSON", "pandas"])
def test_a_csv_file_holds_messages_and_images_as_text(
    tmp_path: Path, written: Callable[[object], str]
) -> None:
    """Regression: the JSON itself was the text of question and responses."""
    cells = {
        "prompt": written([user([{"type": "image"}, {"type": "text", "text": "Why?"}])]),
        "chosen": written([A]),
        "rejected": written([{**B, "kind": None}]),
        "images": written(["a.png"]),
    }
    texts = {"prompt": "Why [not]?", "chosen": "[1, 2]", "rejected": "{}", "images": "[b].png"}
    write_csv(tmp_path / "a.csv", cells, texts, cells | {"images": written({"path": "c.png"})})
    first, second, third = open_source("csv", tmp_path / "a.csv", None)
    assert isinstance(first, RawPair) and isinstance(second, RawPair) and isinstance(third, RawPair)
    assert first.question == third.question == "Why?"
    assert (first.response_1, first.response_2, first.images) == ("So.", "No.", ("a.png",))
    assert (second.question, second.response_1, second.response_2) == ("Why [not]?", "[1, 2]", "{}")
    assert (second.images, third.images) == (("[b].png",), ("c.png",))


def test_messages_of_a_csv_file_that_cannot_be_read_are_no_text(tmp_path: Path) -> None:
    """As numpy prints them: no commas."""
    cells = {"prompt": "Why?", "chosen": f"[{Q}\n {A}]", "rejected": f"[{Q}\n {B}]"}
    write_csv(tmp_path / "a.csv", cells)
    (found,) = open_source("csv", tmp_path / "a.csv", None)
    assert isinstance(found, DataError)
    assert str(found).endswith(
        "messages are written in a form that is not JSON; write them as JSON"
    )


def test_text_of_jsonl_stays_text(tmp_path: Path) -> None:
    (pair,) = read(
        tmp_path / "a.jsonl", {"prompt": "Why?", "chosen": json.dumps([A]), "rejected": "No."}
    )
    assert isinstance(pair, RawPair)
    assert pair.response_1 == json.dumps([A])


@pytest.mark.parametrize(
    "text", ["[a", "{[]: 1}", "[" * 9000, "{'a': 1, b}", "\\d[1]", "[x].png", "{x}.png", "", " "]
)
def test_text_that_is_no_list_stays_as_it_is(text: str) -> None:
    assert written_in(text) == messages_in(text) == text


def test_lists_that_are_no_messages_stay_text() -> None:
    for text in (
        "[]",
        "[1, 2]",
        '[{"role": "user"}]',
        '[{"a": 1}]',
        '{"role": "user", "content": "?"}',
    ):
        assert messages_in(text) == text
