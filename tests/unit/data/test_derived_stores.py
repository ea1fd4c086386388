"""Stores made from stores: no duplicate, no leak between parts, quotas kept; and what is in them."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.data.cleaning.dedupe import dedupe
from r1reward.data.cleaning.mix import MixRecipe, load_mix, mix, quotas
from r1reward.data.cleaning.split import split
from r1reward.data.importers.importing import ImportOptions, import_pairs
from r1reward.data.importers.raw_pair import RawPair
from r1reward.data.stores.pair_stats import count_pairs
from r1reward.data.stores.pair_writer import PairWriter
from r1reward.data.stores.store import (
    Header,
    iter_pairs,
    pair_key,
    pair_row,
    write_pairs,
)
from r1reward.data.stores.validate import validate
from r1reward.errors import DataError, InputError, RecipeError
from r1reward.recipe.files import validated
from r1reward.shapes.pairs import make_pairs
from r1reward.types import PreferencePair

RECIPES = Path(__file__).parents[3] / "recipes"
PAIRS = make_pairs("train", 40, seed=0)


def write_store(folder: Path, pairs: list[PreferencePair]) -> Path:
    writer = PairWriter(folder, Header(), {"test": 1}, shard_rows=7)
    writer.claim(resume=False)
    for pair in pairs:
        writer.add(pair_row(pair))
    writer.finish({})
    return folder


def keys(store: Path) -> list[str]:
    return [pair_key(pair) for pair in iter_pairs(store)]


def text_pair(name: str, **changes: object) -> PreferencePair:
    return replace(PreferencePair(name, (), "yes", "no", 1), **changes)  # type: ignore[arg-type]


def test_dedupe_keeps_the_first_of_each_preference_over_all_stores(tmp_path: Path) -> None:
    a = write_store(tmp_path / "a", [*PAIRS[:10], PAIRS[2].swapped()])
    b = write_store(tmp_path / "b", PAIRS[8:12])
    report = dedupe([a, b], tmp_path / "out")
    assert keys(tmp_path / "out") == [pair_key(pair) for pair in PAIRS[:12]]
    assert report.dropped == {"duplicate": 3}
    assert report.examples["duplicate"][0].startswith(f"{a}/pairs-00001.parquet row 4: the same")


def test_dedupe_does_not_believe_the_keys_of_a_file_that_is_no_store(tmp_path: Path) -> None:
    rows = [{**pair_row(text_pair(name)), "key": "same"} for name in ("q1", "q2")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    assert dedupe([tmp_path / "pairs.parquet"], tmp_path / "out").num_written == 2


def test_paths_stay_where_all_stores_share_a_root_and_come_inside_where_not(
    tmp_path: Path,
) -> None:
    stores = []
    for name, pair in zip("ab", PAIRS[:2], strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(pair.images[0])
        raw = RawPair("row", name, pair.response_1, pair.response_2, 1, ("x.png",))
        stores.append(tmp_path / f"store-{name}")
        import_pairs([raw], stores[-1], ImportOptions(tmp_path / name, embed=False), {})
    dedupe(stores, tmp_path / "both")
    dedupe(stores[:1], tmp_path / "one")
    found = {
        name: pq.read_table(tmp_path / name / "pairs-00000.parquet").to_pylist()
        for name in ("both", "one")
    }
    assert [row["image_paths"] for row in found["both"]] == [[], []]
    assert [row["image_paths"] for row in found["one"]] == [["x.png"]]
    images = [pair.images for pair in iter_pairs(tmp_path / "both")]
    assert images == [pair.images for pair in PAIRS[:2]]
    assert next(iter_pairs(tmp_path / "one")).images == PAIRS[0].images


def test_a_split_shares_no_group_no_image_and_no_pair(tmp_path: Path) -> None:
    image = {i: PAIRS[i].images for i in range(40)}
    # A chain: 0 and 1 share a group, 1 and 2 an image, 2 and 3 a group; the sides of all others are free.
    pairs = [
        text_pair("q0", group="g", images=image[0]),
        text_pair("q1", group="g", images=image[1]),
        text_pair("q2", group="h", images=(*image[1], *image[2])),
        text_pair("q3", group="h", images=image[3]),
        *(text_pair(f"q{i}", images=image[i]) for i in range(4, 40)),
        text_pair("q7", images=image[7]),
    ]
    for seed in range(6):
        out = tmp_path / str(seed)
        reports = split(write_store(out / "in", pairs), out, {"train": 0.5, "test": 0.5}, seed)
        sides = {name: list(iter_pairs(out / name)) for name in reports}
        assert sum(map(len, sides.values())) == 41
        questions = [{pair.question for pair in side} for side in sides.values()]
        assert not questions[0] & questions[1]
        assert any({"q0", "q1", "q2", "q3"} <= side for side in questions)
        images = [{image for pair in side for image in pair.images} for side in sides.values()]
        assert not images[0] & images[1]
        assert 16 <= len(sides["train"]) <= 25


def test_groups_of_two_sources_with_one_name_are_two_groups(tmp_path: Path) -> None:
    pairs = [
        text_pair(f"{source} {i}", source=source, group="1") for source in "ab" for i in (1, 2)
    ]
    split(write_store(tmp_path / "in", pairs), tmp_path, {"x": 1, "y": 1}, seed=0)
    assert len(keys(tmp_path / "x")) == len(keys(tmp_path / "y")) == 2


def test_a_split_depends_on_content_and_seed_not_on_the_order_of_rows(tmp_path: Path) -> None:
    sides = []
    for name, pairs, seed in (("a", PAIRS, 0), ("b", PAIRS[::-1], 0), ("c", PAIRS, 1)):
        out = tmp_path / name
        reports = split(write_store(out / "in", pairs), out, {"train": 9, "heldout": 1}, seed)
        assert [report.num_written for report in reports.values()] == [36, 4]
        sides.append(set(keys(out / "heldout")))
    assert sides[0] == sides[1] != sides[2]


def test_quotas_add_up_exactly() -> None:
    recipe = load_mix(RECIPES / "mix_200k.yaml")
    rows = quotas(recipe)
    # 40,958.894, 43,946.404, 9,409.343 and 5,685.359: the two largest remainders are rounded up.
    assert rows == [41163, 46281, 8306, 9990, 40959, 43947, 9409, 5685]
    assert sum(row for row in rows if row is not None) == 205_740


def test_a_mix_draws_its_quotas_by_content_and_spreads_its_sources(tmp_path: Path) -> None:
    a = [text_pair(f"a{i}", category="x" if i % 3 else "y") for i in range(30)]
    b = [text_pair(f"b{i}") for i in range(30)]
    stores = {"a": write_store(tmp_path / "a", a), "b": write_store(tmp_path / "b", b)}
    sources = (
        {"store": stores["a"], "category": "y", "rows": 8},
        {"store": stores["b"], "weight": 3},
        {"store": stores["a"], "category": "x", "weight": 1},
    )
    recipe = MixRecipe.model_validate({"sources": sources, "weighted_rows": 16, "seed": 4})
    mix(recipe, tmp_path / "mix")
    drawn = list(iter_pairs(tmp_path / "mix"))
    counts = Counter((pair.question[0], pair.category) for pair in drawn)
    assert counts == {("a", "y"): 8, ("b", ""): 12, ("a", "x"): 4}
    first_half = Counter((pair.question[0], pair.category) for pair in drawn[:12])
    assert first_half == {("a", "y"): 4, ("b", ""): 6, ("a", "x"): 2}
    write_store(tmp_path / "turned" / "b", b[::-1])
    again = MixRecipe.model_validate(
        {
            "sources": [sources[0], {**sources[1], "store": tmp_path / "turned" / "b"}, sources[2]],
            "weighted_rows": 16,
            "seed": 4,
        }
    )
    mix(again, tmp_path / "again")
    assert sorted(keys(tmp_path / "again")) == sorted(keys(tmp_path / "mix"))


def test_a_mix_draws_a_pair_of_two_sources_once(tmp_path: Path) -> None:
    a = write_store(tmp_path / "a", PAIRS[:6])
    b = write_store(tmp_path / "b", [*PAIRS[3:6], *PAIRS[6:9]])
    recipe = MixRecipe.model_validate({"sources": [{"store": a}, {"store": b}]})
    mix(recipe, tmp_path / "mix")
    assert sorted(keys(tmp_path / "mix")) == sorted(pair_key(pair) for pair in PAIRS[:9])
    short = MixRecipe.model_validate({"sources": [{"store": a}, {"store": b, "rows": 4}]})
    with pytest.raises(InputError, match="4 pairs are asked for and 3 are there"):
        mix(short, tmp_path / "short")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": []}, "sources"),
        ({"sources": [{"store": "a", "rows": 1, "weight": 1}]}, "a has rows and a weight"),
        ({"sources": [{"store": "a", "weight": 1}]}, "weighted_rows and weights go together"),
        ({"sources": [{"store": "a"}], "weighted_rows": 5}, "weighted_rows and weights go"),
        ({"sources": [{"store": "a", "row": 5}]}, "unknown key; did you mean 'rows'?"),
        ({"sources": [{"store": "a", "weight": float("nan")}], "weighted_rows": 1}, "weight"),
        ({"sources": [{"store": "a", "rows": 0}]}, "rows"),
        (["a"], "mix.yaml"),
        (None, "mix.yaml"),
    ],
)
def test_a_composition_that_cannot_be_meant_is_refused(settings: object, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        validated(MixRecipe, settings, "mix.yaml")
    assert message in str(caught.value)


def test_stats_count_what_is_there(tmp_path: Path) -> None:
    pairs = [
        text_pair("q1", source="s", category="c", group="g", images=PAIRS[0].images),
        text_pair("q22", source="s", group="g", preferred=2),
        text_pair("q333", source="t", group="g"),
    ]
    stats = count_pairs([write_store(tmp_path / "s", pairs)])
    assert stats.num_rows == 3
    assert stats.sources == {"s": 2, "t": 1}
    assert stats.categories == {"c": 1, "": 2}
    assert stats.preferred == {"1": 2, "2": 1}
    assert len(stats.groups) == 2
    assert stats.longer_preferred == 2  # "yes" is longer than "no"
    assert stats.quantiles("question characters") == [2, 3, 4, 4, 4]
    assert list(stats.measured["images"]) == [1, 0, 0]
    assert list(stats.measured["image bytes"]) == [len(PAIRS[0].images[0]), 0, 0]


def test_validate_lists_every_bad_row_and_goes_on(tmp_path: Path) -> None:
    good = PAIRS[0]
    bad = replace(good, question="other", images=(good.images[0][:-60],))
    write_pairs(tmp_path / "pairs.parquet", [good, bad, PAIRS[1], replace(good, question="")])
    report = validate(tmp_path / "pairs.parquet")
    assert (report.num_read, report.dropped) == (4, {"image broken": 1, "empty": 1})
    assert report.examples["empty"][0].startswith(f"{tmp_path}/pairs.parquet row 4: question is")


def test_validate_sees_that_a_stored_path_leads_to_another_image_now(tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    image.write_bytes(PAIRS[0].images[0])
    raw = RawPair("row", "q", "a", "b", 1, ("x.png",))
    import_pairs([raw], tmp_path / "store", ImportOptions(tmp_path, embed=False), {})
    assert not validate(tmp_path / "store").dropped
    image.write_bytes(PAIRS[1].images[0])
    assert validate(tmp_path / "store").dropped == {"changed": 1}
    image.unlink()
    assert validate(tmp_path / "store").dropped == {"image missing": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "a\ud800"}, "row 2: question holds half a character"),
        ({"source": 5}, "row 2: source is 5; it must be text"),
        ({"difficulty": "hard"}, "row 2: difficulty is 'hard'; it must be a whole number"),
        ({"meta": {"a": 1}}, "row 2: meta is {'a': 1}; it must be text"),
    ],
)
def test_what_a_store_cannot_hold_is_named(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    rows = [{**pair_row(text_pair(name)), "images": []} for name in ("q1", "q2")]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [rows[0], {**rows[1], **change}]))
    with pytest.raises(DataError) as caught:
        dedupe([path], tmp_path / "out")
    assert message in str(caught.value)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match="holds no pairs"):
        validate(tmp_path / "empty.jsonl")
    with pytest.raises(InputError, match="holds no pairs"):
        split(tmp_path / "empty.jsonl", tmp_path / "out", {"a": 1}, 0)


def test_huge_weights_and_shares_do_not_overflow(tmp_path: Path) -> None:
    sources = [{"store": "a", "weight": 1e308}, {"store": "b", "weight": 1e308}]
    assert quotas(validated(MixRecipe, {"sources": sources, "weighted_rows": 10}, "test")) == [5, 5]
    store = write_store(tmp_path / "s", [text_pair(str(number)) for number in range(10)])
    reports = split(store, tmp_path / "parts", {"a": 1e308, "b": 1e308}, seed=0)
    assert [report.num_written for report in reports.values()] == [5, 5]


def test_a_split_refuses_a_part_without_rows(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [text_pair("one"), text_pair("two")])
    with pytest.raises(InputError, match="no row would be in heldout"):
        split(store, tmp_path / "parts", {"train": 0.9, "heldout": 0.0001}, seed=0)
    assert not (tmp_path / "parts").exists()
