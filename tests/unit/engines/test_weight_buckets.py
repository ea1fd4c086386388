"""Weights as bytes: every tensor comes back bit for bit, and damage is noticed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from r1reward.engines.weight_buckets import group_by_bytes, pack, unpack, verify
from r1reward.types import WeightBucket


def round_trip(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    header, data = pack(list(tensors.items()))
    verify(header, data)
    data.setflags(write=False)  # as the object store hands it out
    return dict(unpack(header, data))


def assert_same_bits(left: torch.Tensor, right: torch.Tensor) -> None:
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    flat = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (left, right))
    assert torch.equal(*flat)


def test_tensors_of_every_kind_come_back_bit_for_bit() -> None:
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    tensors = {
        "matrix": base,
        "half": base.bfloat16(),
        "odd": torch.tensor([1, 2, 3], dtype=torch.uint8),  # what follows is not aligned
        "scalar": torch.tensor(3.5),
        "half scalar": torch.tensor(-0.1, dtype=torch.bfloat16),
        "transposed": base.t(),
        "strided": base[::2, 1::3].bfloat16(),
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "long": torch.tensor([2**40]),
        "flags": torch.tensor([True, False]),
        "trained": torch.nn.Parameter(base.clone()),
    }
    back = round_trip(tensors)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert_same_bits(back[name], tensor.detach())


# Regression: the bytes of no elements cannot be viewed as float32; torch asks
# for a last stride of 1 and numpy's empty slice has 0.
def test_a_tensor_without_elements_comes_back() -> None:
    empty = torch.zeros(0, 3)
    assert_same_bits(round_trip({"first": torch.ones(2), "empty": empty})["empty"], empty)


def test_header_says_what_the_bytes_are() -> None:
    header, data = pack([("a", torch.zeros(2, 3)), ("b", torch.tensor(1.0).bfloat16())])
    assert header.names == ("a", "b")
    assert header.shapes == ((2, 3), ())
    assert header.dtypes == ("float32", "bfloat16")
    assert header.num_bytes == data.nbytes == 26
    assert data[24:].tolist() == [0x80, 0x3F]  # bfloat16 1.0, little end first


def test_what_is_unpacked_does_not_share_memory_with_the_store() -> None:
    header, data = pack([("a", torch.ones(2))])
    ((_, tensor),) = unpack(header, data)
    tensor.zero_()
    verify(header, data)


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    header, data = pack([("first", torch.arange(8.0)), ("second", torch.tensor(1.0))])
    for position in range(data.nbytes):
        damaged = data.copy()
        damaged[position] ^= 1
        with pytest.raises(ValueError, match="weight bucket starting at first is damaged"):
            verify(header, damaged)
    verify(header, data)


def test_missing_and_extra_bytes_are_noticed() -> None:
    header, data = pack([("w", torch.arange(4.0))])
    for damaged in (data[:-1], np.concatenate([data, data[:1]]), data[::-1].copy()):
        with pytest.raises(ValueError, match="damaged"):
            verify(header, damaged)


def test_the_checksum_is_of_the_bytes_alone() -> None:
    first: WeightBucket = pack([("a", torch.ones(3))])[0]
    assert pack([("b", torch.ones(3))])[0].checksum == first.checksum
    assert pack([("a", torch.zeros(3))])[0].checksum != first.checksum


def test_groups_stay_within_the_limit() -> None:
    sizes = [("a", 4), ("b", 4), ("c", 3), ("d", 6), ("e", 1)]
    assert list(group_by_bytes(sizes, 8)) == [["a", "b"], ["c"], ["d", "e"]]


def test_a_tensor_over_the_limit_has_a_group_of_its_own() -> None:
    assert list(group_by_bytes([("a", 1), ("b", 99), ("c", 1)], 8)) == [["a"], ["b"], ["c"]]
    assert list(group_by_bytes([], 8)) == []


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 60))
def test_grouping_keeps_every_name_in_order(sizes: list[int], limit: int) -> None:
    named = [(f"w{i}", size) for i, size in enumerate(sizes)]
    groups = list(group_by_bytes(named, limit))
    assert [name for group in groups for name in group] == [name for name, _ in named]
    for group in groups:
        assert len(group) == 1 or sum(dict(named)[name] for name in group) <= limit
