"""Planted answers to the published rows, and what the benchmarks' own scripts made of them.

The numbers are facts: cal.py, cal_performance_mmreweard_bench.py and 2_get_accuracy.py, the two
process_results of lmms-eval and VLMEvalKit's evaluation were run on these very answers. What a GPT model
would read for a suite was unreadable there as well. Multimodal RewardBench's rows are made here, in the
published numbers.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from r1reward.data.importers.multimodal_rewardbench import official_category
from r1reward.data.prompt import Tags
from r1reward.data.verdict import parse_verdict
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.mm_rlhf_rewardbench import score_mm_rlhf_rewardbench
from r1reward.evaluation.benchmarks.multimodal_rewardbench import score_multimodal_rewardbench
from r1reward.evaluation.benchmarks.scores import OfficialScore
from r1reward.evaluation.benchmarks.suites import (
    score_lmms_eval_multimodal,
    score_lmms_eval_vl,
    score_vlmevalkit_vl,
)
from r1reward.evaluation.benchmarks.vl_rewardbench import categories_of, score_vl_rewardbench
from r1reward.evaluation.items import Benchmark, Item, make_items
from r1reward.types import Order, PreferencePair, Slot

FOLDER = os.environ.get("R1REWARD_REFERENCE")
published = pytest.mark.skipif(
    not FOLDER, reason="R1REWARD_REFERENCE is not set: the published rows are not at hand"
)
SENTENCE = "Overall Judgment: Answer {} is better."
ODD = (
    *(
        "**Overall Judgment:** Answer {} is better.",
        "Overall judgment - answer {} is the better one.",
    ),
    "Therefore, I think\nthat Answer {} is slightly better.",
    "Overall Judgment: Answer {} is the slightly better answer",
    *("Answer {} is better.", "overall judgement: Answer {} is better.", "Response {} is better"),
    "Overall Judgment: Answer {} is better than Answer {o}. Answer {o} is better at nothing.",
    *("Overall\nJudgment: Answer {} is better.", "I cannot say."),
    *("Overall Judgment: Answer 3 is better.", "Overall Judgment: both are equal."),
    "Overall Judgment: Answer 0{} is better.",
    "Therefore Answer {} is not better. Overall Judgment: Answer{}isbetter",
)
BRACKETS = (
    *("[[{}]]", "Verdict: [[{}]].", "[{}]", "[[A]] and [[B]]"),
    *("Assistant {} is better.", "[[C]]", "[[{}]] it is", ""),
)


def coin(*names: object) -> float:
    """A number from 0 to 1 that is always the same for the same names."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()
    return int(digest, 16) / 2**256


def rows_of(file: str) -> list[dict[str, str]]:
    with (Path(FOLDER or "") / file).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def vl() -> Benchmark:
    """The published rows, half of them with the preferred response second, as on the hub."""
    rows = []
    for number, row in enumerate(rows_of("vl_rewardbench_authors.jsonl")):
        second = coin("store", number) < 0.5
        shown = (row["rejected"], row["chosen"]) if second else (row["chosen"], row["rejected"])
        pair = PreferencePair(row["prompt"], (), *shown, preferred=2 if second else 1)
        rows.append((pair, row["id"], categories_of(row["id"])))
    return Benchmark("vl-rewardbench", make_items(rows), {})


def planted_text(kind: str, row: int, call: int, preferred: Slot) -> str:
    """What the model says; ``preferred`` is the slot of the preferred response as shown."""
    other = 3 - preferred
    chance, hard = coin(kind, row, call), coin(kind, "hard", row)
    match kind:
        case "always 1":
            return SENTENCE.format(1)
        case "noise":
            return SENTENCE.format(preferred if chance < 0.3 + 0.7 * hard else other)
        case "unreadable":
            return "No idea." if chance < hard else SENTENCE.format(preferred)
        case "ties":
            return SENTENCE.format(preferred if call % 2 == 0 else other)
    named = preferred if coin(kind, "p", row, call) < 0.7 else other
    text = ODD[int(chance * len(ODD))]
    return text.replace("{o}", str(3 - named)).replace("{}", str(named))


def answer_to(item: Item, row: int, call: int, order: Order, kind: str) -> Answer:
    text = planted_text(kind, row, call, 1 if order == item.preferred_first else 2)
    choice = parse_verdict(text, Tags(), "vl-rewardbench").choice
    return Answer(item.key, order, call, 0, choice, text=text)


def rounded(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


@published
@pytest.mark.parametrize(
    ("kind", "overall", "macro", "parts"),
    [
        (
            "always 1",
            [51.28, 50.48, 49.68, 50.0, 50.32],
            [52.08, 49.51, 48.55, 49.22, 48.97],
            [(88, 183), (394, 749), (147, 318)],
        ),
        (
            "noise",
            [64.96, 68.56, 70.56, 70.88, 71.2],
            [65.55, 69.64, 70.96, 71.07, 71.98],
            [(137, 183), (529, 749), (224, 318)],
        ),
        ("unreadable", [100.0] * 5, [100.0] * 5, [(90, 90), (393, 393), (145, 145)]),
        (
            "ties",
            [49.12, 48.64, 50.72, 51.04, 52.4],
            [48.76, 50.26, 51.94, 49.67, 52.23],
            [(91, 183), (389, 749), (175, 318)],
        ),
        (
            "odd wordings",
            [70.25, 81.27, 85.75, 89.95, 91.74],
            [70.79, 80.71, 87.3, 89.03, 91.76],
            [(46, 48), (188, 203), (66, 76)],
        ),
    ],
)
def test_vl_rewardbench_scores_as_its_script(
    vl: Benchmark,
    kind: str,
    overall: list[float],
    macro: list[float],
    parts: list[tuple[int, int]],
) -> None:
    answers = [
        answer_to(item, row, call, "swapped" if coin("order", row, call) < 0.5 else "stored", kind)
        for row, item in enumerate(vl.items)
        for call in range(10)
    ]
    score = score_vl_rewardbench(vl, answers)
    assert [point.num_votes for point in score.curve] == [1, 3, 5, 7, 9]
    assert [rounded(point.overall) for point in score.curve] == overall
    assert [rounded(point.macro) for point in score.curve] == macro
    assert [(part.num_right, part.num_counted) for part in score.parts] == parts


@published
@pytest.mark.parametrize(
    ("kind", "lmms_eval", "num_drawn", "vlmevalkit", "num_wrong"),
    [
        ("always 1", 0.51822202546769, 0, 0.5224, 0),
        ("noise", 0.6670029572371369, 0, 0.6688, 0),
        ("unreadable", 0.7721078930640953, 600, 0.52, 600),
        ("odd wordings", 0.5549813746231529, 516, 0.3384, 616),
    ],
)
def test_vl_rewardbench_scores_as_the_suites(
    vl: Benchmark,
    kind: str,
    lmms_eval: float,
    num_drawn: int,
    vlmevalkit: float,
    num_wrong: int,
) -> None:
    answers = [
        answer_to(item, row, 0, item.parity_order, kind) for row, item in enumerate(vl.items)
    ]
    score = score_lmms_eval_vl(vl, answers)
    assert (score.macro, score.notes) == (lmms_eval, (f"unreadable and so drawn: {num_drawn}",))
    other = score_vlmevalkit_vl(vl, answers)
    assert (other.overall, other.notes) == (
        vlmevalkit,
        (f"unreadable and so wrong: {num_wrong}",),
    )


@published
@pytest.mark.parametrize(
    ("kind", "num_right", "acc_plus"),
    [
        ("always 1", 170, [10, 10, 10, 6, 10, 46]),
        ("noise", 135, [5, 4, 6, 2, 1, 18]),
        ("unreadable", 138, [2, 7, 5, 2, 6, 22]),
        ("ties", 83, [0, 2, 1, 0, 2, 5]),
    ],
)
def test_mm_rlhf_rewardbench_scores_as_its_script(
    kind: str, num_right: int, acc_plus: list[int]
) -> None:
    """A tie of the script's two rewards is an unreadable answer here: both are wrong."""
    rows = rows_of("mm_rlhf_rewardbench.jsonl")
    paths = [row.get("image") or row["video"] for row in rows]
    names = ("mcq", "long", "short", "safety", "video")
    items = make_items(
        (
            PreferencePair(row["prompt"], (), row["chosen"], row["rejected"], preferred=1),
            row["id"],
            {"official": next(name for name in names if name in path)},
        )
        for row, path in zip(rows, paths, strict=True)
    )
    limits: dict[str, tuple[float, float]] = {  # below the first unreadable, below the second right
        "always 1": (0, 1),
        "noise": (0, 0.8),
        "unreadable": (0.2, 1),
        "ties": (0.3, 0.8),
    }
    none, right = limits[kind]
    answers = []
    for row, item in enumerate(items):
        chance = coin("mm", kind, row)
        choice: Slot | None = None if chance < none else 1 if chance < right else 2
        answers.append(Answer(item.key, "stored", 0, 0, choice))
    score = score_mm_rlhf_rewardbench(Benchmark("mm-rlhf-rewardbench", items, {}), answers)
    assert score.overall == num_right / 170
    found = {part.name: part.num_right for part in score.parts if "Acc+" in part.name}
    order = ("mcq", "short", "long", "safety", "video", "overall")
    assert [found[f"Acc+ {name}"] for name in order] == acc_plus


def made_rows() -> list[tuple[PreferencePair, str, dict[str, str]]]:
    """As many rows of each data set as the released file has, in a fixed mixed order."""
    plan = [
        *(("correctness", "nocaps", 623), ("preference", "nocaps", 654)),
        *(("knowledge", "mmmu-s", 630), ("reasoning", "mathvista", 514)),
        *(("reasoning", "EMMA-Coding", 284), ("reasoning", "image2struct", 300)),
        *(("safety", "pairs", 508), ("vqa", "RealworldQA", 1198)),
    ]
    rows = []
    for category, source, count in plan:
        for number in range(count):
            row_id = f"{source}_{number}"
            label: Slot = 1 if coin("b", category, source, number) < 0.5 else 2
            question = f"q{category}{source}{number}"
            place = coin("sort", row_id, category)
            rows.append((place, question, label, row_id, category))
    return [
        (
            PreferencePair(question, (), "a", "b", preferred=label),
            row_id,
            {"official": official_category(row_id, category)},
        )
        for _, question, label, row_id, category in sorted(rows)
    ]


def bracket_text(kind: str, row: int, label: str) -> str:
    chance = coin("g", kind, row)
    named = label if coin("g2", kind, row) < 0.75 else "AB"["BA".index(label)]
    match kind:
        case "always 1":
            return "[[A]]"
        case "noise":
            return f"Well.\n[[{named}]]"
        case "unreadable":
            return "None" if chance < 0.4 else f"[[{named}]]"
    return BRACKETS[int(chance * len(BRACKETS))].replace("{}", named)


@pytest.mark.parametrize(
    ("kind", "num_right", "num_unreadable", "lmms_eval"),
    [
        ("always 1", 2318, 0, 2318),
        ("noise", 3521, 0, 3521),
        ("unreadable", 3051, 1949, 3053),
        ("odd wordings", 2813, 2337, 2819),
    ],
)
def test_multimodal_rewardbench_scores_as_its_script_and_as_lmms_eval(
    kind: str, num_right: int, num_unreadable: int, lmms_eval: int
) -> None:
    items = make_items(made_rows())
    benchmark = Benchmark("multimodal-rewardbench", items, {})
    answers = []
    for row, item in enumerate(items):
        text = bracket_text(kind, row, "A" if item.pair.preferred == 1 else "B")
        choice = parse_verdict(text, Tags(), "multimodal-rewardbench").choice
        answers.append(Answer(item.key, "stored", 0, 0, choice, text=text))
    score = score_multimodal_rewardbench(benchmark, answers)
    assert score.overall == num_right / 4711
    assert score.notes == (f"unreadable and so drawn: {num_unreadable}",)
    assert score_lmms_eval_multimodal(benchmark, answers).overall == lmms_eval / 4711


@pytest.mark.parametrize(
    "score", [score_lmms_eval_vl, score_lmms_eval_multimodal, score_vlmevalkit_vl]
)
def test_a_suite_takes_one_answer_a_row(
    score: Callable[[Benchmark, list[Answer]], OfficialScore],
) -> None:
    item = make_items([(PreferencePair("q", (), "a", "b", preferred=1), "x", {"official": "a"})])
    twice = [Answer(item[0].key, "stored", index, 0, 1) for index in range(2)]
    with pytest.raises(ValueError, match="one answer a row"):
        score(Benchmark("vl-rewardbench", item, {}), twice)
