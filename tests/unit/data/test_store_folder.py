"""Stores of shards: whole or not there, streamed, read at random, trained on from disk."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.data.requests import build_prompt_set
from r1reward.data.stores.key_set import KeySet
from r1reward.data.stores.pair_store import PairsById, PairStore
from r1reward.data.stores.pair_writer import PairWriter
from r1reward.data.stores.store import (
    HEADER_KEY,
    Header,
    iter_pairs,
    pair_files,
    pair_key,
    pair_row,
    read_header,
    read_pairs,
)
from r1reward.errors import DataError, InputError
from r1reward.evaluation.benchmarks.load import load_benchmark
from r1reward.pipeline.sources import load_pairs
from r1reward.recipe.sections import FileSource
from r1reward.shapes.pairs import make_pairs
from r1reward.types import Order, PreferencePair, Prompt

PAIRS = make_pairs("train", 10, seed=0)


def write_store(folder: Path, pairs: list[PreferencePair], shard_rows: int = 4) -> Path:
    writer = PairWriter(folder, Header(), {"test": 1}, shard_rows=shard_rows)
    writer.claim(resume=False)
    for pair in pairs:
        writer.add(pair_row(pair))
    writer.finish({})
    return folder


def without_origin(pairs: list[PreferencePair]) -> list[PreferencePair]:
    return [replace(pair, origin="") for pair in pairs]


def test_a_store_gives_back_its_pairs_and_names_shard_and_row(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", PAIRS)
    read = read_pairs(store, None, None)
    assert without_origin(read) == without_origin(PAIRS)
    assert [file.path.name for file in pair_files(store)] == [
        f"pairs-0000{i}.parquet" for i in range(3)
    ]
    assert read[5].origin == f"{store}/pairs-00001.parquet row 2"
    assert without_origin(read_pairs(store, None, 3)) == without_origin(PAIRS[:3])


def test_random_access_reads_what_streaming_reads(tmp_path: Path) -> None:
    store = PairStore(write_store(tmp_path / "store", PAIRS, shard_rows=3))
    streamed = list(iter_pairs(tmp_path / "store"))
    assert len(store) == 10
    assert [store[i] for i in (9, 0, 5, 3, 4)] == [streamed[i] for i in (9, 0, 5, 3, 4)]
    assert store[-1] == streamed[9]
    assert list(store) == streamed
    assert list(store[2:8][1:3]) == streamed[3:5]
    with pytest.raises(IndexError, match="holds 10 pairs, there is no number 10"):
        store[10]


def test_an_unfinished_store_is_not_read(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", PAIRS)
    (store / "report.json").unlink()
    with pytest.raises(DataError, match="unfinished; run the command that writes it once more"):
        read_pairs(store, None, None)
    with pytest.raises(DataError, match="no store of pairs"):
        PairStore(tmp_path)


def test_nothing_of_a_shard_that_was_not_finished_is_seen(tmp_path: Path) -> None:
    writer = PairWriter(tmp_path / "s", Header(), {}, shard_rows=100)
    writer.claim(resume=False)
    for pair in PAIRS:
        writer.add(pair_row(pair))
    writer.write_group()
    assert [file.name for file in (tmp_path / "s").iterdir()] == [".pairs-00000.partial"]


def test_a_row_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    writer = PairWriter(tmp_path / "s", Header(), {})
    writer.claim(resume=False)
    with pytest.raises(DataError, match="the two responses are identical"):
        writer.add(pair_row(replace(PAIRS[0], response_2=PAIRS[0].response_1)))
    with pytest.raises(DataError, match="preferred is 3"):
        writer.add({**pair_row(PAIRS[0]), "preferred": 3})


def test_a_store_is_never_written_over(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", PAIRS)
    with pytest.raises(InputError, match="holds a store already; choose another folder"):
        PairWriter(store, Header(), {"test": 1}).claim(resume=True)
    (store / "report.json").unlink()
    with pytest.raises(InputError, match="another command's store"):
        PairWriter(store, Header(), {"test": 2}).claim(resume=True)
    assert PairWriter(store, Header(), {"test": 1}).claim(resume=False) is None
    assert list(store.iterdir()) == []


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    table = pa.Table.from_pylist([pair_row(PAIRS[0])])
    pq.write_table(table.replace_schema_metadata({HEADER_KEY: json.dumps({"schema": 9})}), path)
    with pytest.raises(DataError, match=r"newer version \(schema 9, this one reads 2\)"):
        read_pairs(path, None, None)
    pq.write_table(table.replace_schema_metadata({HEADER_KEY: b"[]"}), path)
    with pytest.raises(DataError, match="its header cannot be read"):
        read_header(path)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", PAIRS)
    shard = store / "pairs-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[4:2000] = bytes(1996)
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"pairs-00001\.parquet: damaged"):
        read_pairs(store, None, None)
    with pytest.raises(DataError, match=r"pairs-00001\.parquet: damaged"):
        PairStore(store)[5]


def test_the_key_is_that_of_the_preference_not_of_its_order() -> None:
    pair = PAIRS[0]
    assert pair_key(pair) == pair_key(pair.swapped())
    assert pair_key(replace(pair, preferred=pair.swapped().preferred)) != pair_key(pair)
    assert pair_key(replace(pair, images=PAIRS[1].images)) != pair_key(pair)


@given(st.lists(st.integers(0, 40) | st.integers(0, 2**64 - 1), max_size=60), st.booleans())
def test_a_key_set_is_a_set(values: list[int], crowded: bool) -> None:
    # Multiples of the table's size all want the same slot.
    keys = [f"{(value << 10 if crowded else value) % 2**64 or 1:016x}" for value in values]
    keys_seen, expected = KeySet(), set[str]()
    for key in keys:
        assert keys_seen.add(key) == (key not in expected)
        expected.add(key)
    assert len(keys_seen) == len(expected)
    assert all(key in keys_seen for key in keys)


def test_a_key_set_keeps_its_keys_while_it_grows() -> None:
    keys = KeySet()
    assert all(keys.add(f"{number * 2654435761 % 2**64:016x}") for number in range(1, 3000))
    assert not any(keys.add(f"{number * 2654435761 % 2**64:016x}") for number in range(1, 3000))
    assert f"{5:016x}" not in keys


def encode(pair: PreferencePair, order: Order) -> Prompt:
    return Prompt(f"{pair.pair_id}-{order}", pair, order, "", (), len(pair.response_1))


def test_training_on_a_store_is_training_on_its_pairs(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", [*PAIRS, PAIRS[3]])
    limit = sorted(len(pair.response_1) for pair in PAIRS)[6]
    source = FileSource(type="file", path=store)
    lazy = build_prompt_set(load_pairs(source), encode, limit, "data.train")
    listed = build_prompt_set(list(iter_pairs(store)), encode, limit, "data.train")
    assert list(lazy.pairs) == list(listed.pairs)
    assert lazy.num_too_long == listed.num_too_long
    assert lazy.num_repeated == listed.num_repeated == 11 - lazy.num_too_long - len(listed.pairs)
    by_id = PairsById(lazy.pairs)
    assert all(by_id[pair.pair_id] == pair for pair in listed.pairs)
    assert by_id.get("gone") is None


def test_a_store_can_be_evaluated_on(tmp_path: Path) -> None:
    benchmark = load_benchmark("pairs", write_store(tmp_path / "store", PAIRS))
    assert [item.pair.pair_id for item in benchmark.items] == [pair.pair_id for pair in PAIRS]
