"""One loader for every benchmark: stores of our own, missing media, protocols, wrong names."""

import json
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from r1reward.data.stores.store import write_pairs
from r1reward.errors import DataError, InputError
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.load import (
    LOADERS,
    SHAPES_SPLITS,
    comparable_rows,
    load_benchmark,
)
from r1reward.evaluation.benchmarks.official import PROTOCOLS
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.items import Benchmark
from r1reward.recipe.choices import BenchmarkName
from r1reward.shapes.pairs import make_pairs
from r1reward.types import PreferencePair


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def vl_rows(num_rows: int) -> list[dict[str, object]]:
    return [
        {
            "id": f"mmmu_{number}",
            "prompt": "What is it?",
            "chosen": f"Cat {number}.",
            "rejected": f"Dog {number}.",
            "image": f"img/{number}.png",
        }
        for number in range(num_rows)
    ]


def store_rows(num_rows: int) -> list[dict[str, object]]:
    return [
        {
            "question": "What is it?",
            "images": ["img/0.png", f"img/{number}.png"],
            "response_1": f"Cat {number}.",
            "response_2": f"Dog {number}.",
            "preferred": 2,
        }
        for number in range(num_rows)
    ]


def make_images(folder: Path, numbers: list[int]) -> None:
    (folder / "img").mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (2, 2), (number, 0, 0)).save(folder / "img" / f"{number}.png")


def test_missing_media_are_one_error(tmp_path: Path) -> None:
    make_images(tmp_path, [0, 3])
    path = write_rows(tmp_path / "data.jsonl", vl_rows(7))
    with pytest.raises(DataError) as error:
        load_benchmark("vl-rewardbench", path)
    assert str(error.value) == (
        f"{path}: 5 of 7 rows miss their image or video under {tmp_path} "
        "(img/1.png, img/2.png, img/4.png, ...): point the images folder at the one that holds "
        "them, or choose to drop rows whose media are missing"
    )


def test_a_folder_with_no_image_at_all_cannot_be_dropped(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", vl_rows(2))
    with pytest.raises(DataError) as error:
        load_benchmark("vl-rewardbench", path, MediaOptions(missing="drop"))
    assert str(error.value) == (
        f"{path}: 2 of 2 rows miss their image or video under {tmp_path} "
        "(img/0.png, img/1.png): point the images folder at the one that holds them"
    )


def test_rows_whose_media_are_missing_are_dropped_and_counted(tmp_path: Path) -> None:
    make_images(tmp_path / "media", [0, 3])
    path = write_rows(tmp_path / "data.jsonl", vl_rows(7))
    media = MediaOptions(root=tmp_path / "media", missing="drop")
    benchmark = load_benchmark("vl-rewardbench", path, media)
    assert [item.row_id for item in benchmark.items] == ["mmmu_0", "mmmu_3"]
    assert benchmark.num_dropped == {"media missing": 5}
    first_three = load_benchmark("vl-rewardbench", path, media, num_rows=3)
    assert first_three.num_dropped == {"media missing": 2}


def test_a_store_of_our_own(tmp_path: Path) -> None:
    make_images(tmp_path, [0, 1, 2])
    rows = store_rows(3)
    rows[1] |= {"category": "animals", "group": "g1"}
    benchmark = load_benchmark("pairs", write_rows(tmp_path / "pairs.jsonl", rows))
    assert [item.categories["category"] for item in benchmark.items] == ["all", "animals", "all"]
    assert [item.pair.group for item in benchmark.items] == ["", "g1", ""]
    assert [item.row_id for item in benchmark.items] == ["row 1", "row 2", "row 3"]
    assert [len(item.pair.images) for item in benchmark.items] == [2, 2, 2]
    assert len(load_benchmark("pairs", tmp_path / "pairs.jsonl", num_rows=2).items) == 2


def test_a_store_with_missing_images(tmp_path: Path) -> None:
    make_images(tmp_path, [0, 2])
    path = write_rows(tmp_path / "pairs.jsonl", store_rows(4))
    with pytest.raises(DataError, match=r"2 of 4 rows miss .*\(img/1.png, img/3.png\)"):
        load_benchmark("pairs", path)
    kept = load_benchmark("pairs", path, MediaOptions(missing="drop"))
    assert [item.pair.origin for item in kept.items] == [f"{path} row 1", f"{path} row 3"]
    assert kept.num_dropped == {"media missing": 2}


def test_a_bad_store_is_refused(tmp_path: Path) -> None:
    make_images(tmp_path, [0])
    rows = store_rows(1)
    path = write_rows(tmp_path / "pairs.jsonl", [rows[0] | {"preferred": 3}])
    with pytest.raises(DataError, match="row 1: preferred is 3"):
        load_benchmark("pairs", path)
    with pytest.raises(DataError, match="row 1: images is a number"):
        load_benchmark("pairs", write_rows(path, [rows[0] | {"images": 7}]))
    with pytest.raises(DataError, match="holds no rows"):
        load_benchmark("pairs", write_rows(path, []))
    with pytest.raises(DataError, match="no such file"):
        load_benchmark("pairs", tmp_path / "absent.jsonl")


def test_a_row_that_cannot_be_used_is_left_out_counted_and_named(tmp_path: Path) -> None:
    """Regression: one such row ended the evaluation of all others."""
    make_images(tmp_path, [0, 1, 2, 3, 4])
    (tmp_path / "img" / "4.png").write_bytes(b"no image")
    rows = store_rows(6)[:5]
    rows[1] |= {"preferred": "tie"}
    rows[3] |= {"question": "cut \ud83d"}
    path = write_rows(tmp_path / "pairs.jsonl", rows)
    path.write_text(path.read_text() + "{no JSON\n")
    benchmark = load_benchmark("pairs", path)
    assert [item.pair.origin for item in benchmark.items] == [f"{path} row 1", f"{path} row 3"]
    assert benchmark.num_dropped == {"broken row": 2, "half a character": 1, "image broken": 1}
    sentences = [sentence.removeprefix(f"{path} ")[:24] for sentence in benchmark.unusable]
    assert sorted(sentences) == [
        "row 2: preferred is 'tie",
        "row 4: question holds ha",
        f"row 5: image {tmp_path}"[:24],
        "row 6: not JSON: Expecti",
    ]


def test_a_published_row_that_cannot_be_used_is_left_out_counted_and_named(tmp_path: Path) -> None:
    make_images(tmp_path, [0, 1, 2, 3])
    (tmp_path / "img" / "3.png").write_bytes(b"no image")
    rows = vl_rows(4)
    rows[1] |= {"chosen": "cut \ud83d"}
    rows[2] |= {"prompt": None}
    path = write_rows(tmp_path / "data.jsonl", rows)
    benchmark = load_benchmark("vl-rewardbench", path)
    assert [item.row_id for item in benchmark.items] == ["mmmu_0"]
    assert benchmark.num_dropped.keys() == {"half a character", "empty", "image broken"}
    assert len(benchmark.unusable) == 3
    assert all(sentence.startswith(f"{path} row ") for sentence in benchmark.unusable)


def test_a_group_that_is_a_score_is_left_out_as_a_whole(tmp_path: Path) -> None:
    """Regression: Acc+ took the rest of a group for all of it."""
    make_images(tmp_path, [0, 2, 3])
    rows = store_rows(4)
    for row, group in zip(rows, ("a", "a", "b", ""), strict=True):
        row["group"] = group
    path = write_rows(tmp_path / "pairs.jsonl", rows)
    benchmark = load_benchmark("pairs", path, MediaOptions(missing="drop"))
    assert benchmark.scores_groups
    assert [item.row_id for item in benchmark.items] == ["row 2", "row 3"]
    cut = "another row of its group was left out"
    assert benchmark.num_dropped == {"media missing": 1, cut: 1}
    write_rows(path, [rows[0] | {"preferred": 3}, rows[1] | {"images": []}, rows[2]])
    benchmark = load_benchmark("pairs", path)
    assert [item.pair.group for item in benchmark.items] == ["b"]
    assert benchmark.num_dropped == {"broken row": 1, cut: 1}
    with pytest.raises(DataError, match="so no group is whole"):
        load_benchmark("pairs", path, num_rows=2)


def test_a_published_group_that_is_a_score_is_left_out_as_a_whole(tmp_path: Path) -> None:
    make_images(tmp_path, [0, 1, 2, 3])
    (tmp_path / "img").rename(tmp_path / "mcq")
    rows = [
        row | {"image": str(row["image"]).replace("img", "mcq"), "id": group}
        for row, group in zip(vl_rows(4), "aabb", strict=True)
    ]
    rows[2] |= {"chosen": "cut \ud83d"}
    path = write_rows(tmp_path / "data.jsonl", rows)
    benchmark = load_benchmark("mm-rlhf-rewardbench", path)
    assert [item.pair.group for item in benchmark.items] == ["a", "a"]
    assert sum(benchmark.num_dropped.values()) == 2
    assert len(benchmark.unusable) == 1


def test_training_data_is_compared_with_every_row_or_none(tmp_path: Path) -> None:
    make_images(tmp_path, [0, 1])
    rows = store_rows(2)
    rows[1] |= {"preferred": "tie"}
    path = write_rows(tmp_path / "pairs.jsonl", rows)
    with pytest.raises(DataError, match=r"row 2: preferred is 'tie'.*mend the row"):
        list(comparable_rows("pairs", path, None, text_only=False))


def test_a_parquet_store_round_trips(tmp_path: Path) -> None:
    pairs = make_pairs("heldout", 4, seed=3)
    write_pairs(tmp_path / "pairs.parquet", pairs)
    benchmark = load_benchmark("pairs", tmp_path / "pairs.parquet")
    assert [item.key for item in benchmark.items] == [pair.pair_id for pair in pairs]


def test_the_miniature(tmp_path: Path) -> None:
    plain = load_benchmark("shapes", num_rows=6)
    assert [item.pair for item in plain.items] == make_pairs("heldout", 6, seed=0)
    hard = load_benchmark("shapes-hard", num_rows=10)
    assert [item.pair for item in hard.items] == make_pairs("hard_heldout", 10, seed=0)
    assert {item.categories["category"] for item in hard.items} == {
        "crowded",
        "near_colours",
        "counting",
        "two_images",
        "text_only",
    }


def test_wrong_names_and_paths() -> None:
    with pytest.raises(InputError, match="no benchmark is called 'vlrb'; choose one of vl-reward"):
        load_benchmark("vlrb")
    with pytest.raises(InputError, match="mm-rlhf-rewardbench is read from a file"):
        load_benchmark("mm-rlhf-rewardbench")


@pytest.mark.parametrize(
    ("name", "num_samples", "temperature", "orders"),
    [
        ("vl-rewardbench", 10, 0.2, "random"),
        ("mm-rlhf-rewardbench", 1, 0.0, "single"),
        ("multimodal-rewardbench", 1, 1.0, "stored"),
    ],
)
def test_protocols(name: str, num_samples: int, temperature: float, orders: str) -> None:
    protocol = PROTOCOLS.get(name)
    assert protocol is not None
    assert (protocol.num_samples, protocol.temperature, protocol.orders) == (
        num_samples,
        temperature,
        orders,
    )


def test_our_own_sets_have_no_official_protocol() -> None:
    assert PROTOCOLS.get("pairs") is None
    assert PROTOCOLS.get("shapes") is None


def load_any(name: str, folder: Path, num_rows: int) -> Benchmark:
    """The same preferred-first rows in each benchmark's own format."""
    make_images(folder, list(range(num_rows)))
    rows = vl_rows(num_rows)
    if name == "multimodal-rewardbench":
        path = folder / "all_data.json"
        renamed = [
            {
                "ID": row["id"],
                "Text": row["prompt"],
                "Image": row["image"],
                "Output1": row["chosen"],
                "Output2": row["rejected"],
                "Better": "Output1",
                "Category": "knowledge",
            }
            for row in rows
        ]
        path.write_text(json.dumps(renamed))
        return load_benchmark(name, path)
    if name == "mm-rlhf-rewardbench":
        (folder / "img").rename(folder / "mcq")
        rows = [row | {"image": str(row["image"]).replace("img", "mcq")} for row in rows]
    return load_benchmark(name, write_rows(folder / "data.jsonl", rows))


@pytest.mark.parametrize(
    "name", ["vl-rewardbench", "mm-rlhf-rewardbench", "multimodal-rewardbench"]
)
def test_planted_answers_score_what_was_planted(tmp_path: Path, name: str) -> None:
    benchmark = load_any(name, tmp_path, 20)
    protocol = PROTOCOLS.get(name)
    assert protocol is not None
    # The label, wrong in every fifth row: 16 of 20.
    planted = [
        Answer(item.key, "swapped", 0, 0, 2 if number % 5 else 1)
        for number, item in enumerate(benchmark.items)
    ]
    assert protocol.score(benchmark, planted).overall == 0.8
    always_1 = [Answer(item.key, item.preferred_first, 0, 0, 1) for item in benchmark.items]
    assert protocol.score(benchmark, always_1).overall == 1.0
    always_2 = [Answer(item.key, item.preferred_first, 0, 0, 2) for item in benchmark.items]
    assert protocol.score(benchmark, always_2).overall == 0.0


def test_a_pair_of_a_store_is_not_changed(tmp_path: Path) -> None:
    pair = make_pairs("heldout", 1, seed=0)[0]
    write_pairs(tmp_path / "pairs.parquet", [pair])
    (item,) = load_benchmark("pairs", tmp_path / "pairs.parquet").items
    stored: PreferencePair = item.pair
    assert (stored.question, stored.images, stored.preferred) == (
        pair.question,
        pair.images,
        pair.preferred,
    )


def test_every_benchmark_of_a_recipe_has_its_own_loader() -> None:
    assert {*LOADERS, *SHAPES_SPLITS} == set(get_args(BenchmarkName))
    assert len(set(LOADERS.values())) == len(LOADERS)
