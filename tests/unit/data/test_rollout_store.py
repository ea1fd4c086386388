"""Saved rollouts are read back as they were, or refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from r1reward.data.stores.rollout_store import (
    check_rollouts,
    read_rollouts,
    rollout_path,
    write_rollouts,
)
from r1reward.errors import DataError
from r1reward.types import (
    JudgeWord,
    Order,
    PreferencePair,
    Prompt,
    Reward,
    Rollout,
    RolloutRequest,
    ScoredRollout,
    Verdict,
)

PAIR = PreferencePair("q", (b"image",), "a", "b", preferred=1)
PAIRS = {PAIR.pair_id: PAIR}


def encode(pair: PreferencePair, order: Order) -> Prompt:
    shown = pair if order == "stored" else pair.swapped()
    return Prompt(f"{pair.pair_id}-{order}", shown, order, "text", (7, 8), num_tokens=3)


def scored(order: Order, consistency: float | None, version: int) -> ScoredRollout:
    rollout = Rollout(
        RolloutRequest(encode(PAIR, order), sample_index=1, seed=2**47 + 5),
        prompt_token_ids=(7, 7, 8),
        response_token_ids=(4, 5),
        text="<think>ü</think><answer>1</answer>",
        logprobs=np.array([-0.5, -1.25], dtype=np.float32),
        policy_versions=np.array([version, version + 1]),
        finish_reason="stop",
    )
    word: JudgeWord = "abstain" if consistency is None else "match"
    return ScoredRollout(rollout, Verdict("ü", 1, True), Reward(2.0, 1.0, consistency, 1.0, word))


def plain(item: ScoredRollout) -> tuple[object, ...]:
    """A rollout with its arrays as lists, so that equality is equality."""
    rollout = replace(item.rollout, logprobs=np.zeros(0), policy_versions=np.zeros(0))
    arrays = (item.rollout.logprobs.tolist(), item.rollout.policy_versions.tolist())
    fields = (rollout.request, rollout.prompt_token_ids, rollout.response_token_ids, rollout.text)
    return (*fields, rollout.finish_reason, arrays, item.verdict, item.reward)


def test_rollouts_are_read_back_as_they_were(tmp_path: Path) -> None:
    batch = [scored("stored", 1.0, 3), scored("swapped", None, 0)]
    unread = replace(batch[0], verdict=Verdict(None, None, False))
    path = tmp_path / "new" / "step-000001.parquet"
    paired = replace(batch[0], reward=replace(batch[0].reward, position=1.0))
    write_rollouts(path, [*batch, unread, paired])
    read = read_rollouts(path, PAIRS, encode)
    assert [plain(item) for item in read] == [plain(item) for item in [*batch, unread, paired]]
    assert read[0].rollout.request.prompt.pair.images == (b"image",)
    assert read[0].rollout.logprobs.dtype == np.float32


def test_files_from_before_the_position_reward_are_read(tmp_path: Path) -> None:
    path = rollout_path(tmp_path, 0)
    item = scored("stored", 1.0, 3)
    write_rollouts(path, [item])
    pq.write_table(pq.read_table(path).drop_columns(["position"]), path)
    (read,) = read_rollouts(path, PAIRS, encode)
    assert plain(read) == plain(item)
    assert read.reward.position is None


def test_nothing_but_the_finished_file_is_left_in_the_folder(tmp_path: Path) -> None:
    path = rollout_path(tmp_path, 0)
    write_rollouts(path, [scored("stored", 1.0, 0)])
    write_rollouts(path, [scored("swapped", 1.0, 0)])
    assert [item.name for item in tmp_path.iterdir()] == ["step-000001.parquet"]
    assert read_rollouts(path, PAIRS, encode)[0].rollout.request.prompt.order == "swapped"


def test_file_names_count_steps_from_one() -> None:
    assert rollout_path(Path("r"), 0).name == "step-000001.parquet"
    assert rollout_path(Path("r"), 41).name == "step-000042.parquet"


def test_a_missing_step_is_refused(tmp_path: Path) -> None:
    for step in (2, 3):
        rollout_path(tmp_path, step).touch()
    # A resumed run needs only the steps that it has still to do.
    check_rollouts(tmp_path, range(2, 4))
    with pytest.raises(DataError, match=r"no step-000001\.parquet: name .* of at least 4 steps$"):
        check_rollouts(tmp_path, range(4))
    with pytest.raises(DataError, match=r"no step-000005\.parquet.*, or set train.num_steps=4$"):
        check_rollouts(tmp_path, range(2, 9))


def test_a_pair_that_the_data_no_longer_has_is_refused(tmp_path: Path) -> None:
    path = rollout_path(tmp_path, 0)
    write_rollouts(path, [scored("stored", 1.0, 0)])
    with pytest.raises(DataError, match=rf"row 1: pair {PAIR.pair_id} is not in data\.train"):
        read_rollouts(path, {}, encode)


def test_tokens_of_another_model_are_refused(tmp_path: Path) -> None:
    def longer(pair: PreferencePair, order: Order) -> Prompt:
        return replace(encode(pair, order), num_tokens=9)

    path = rollout_path(tmp_path, 0)
    write_rollouts(path, [scored("stored", 1.0, 0)])
    with pytest.raises(DataError, match="row 1: the prompt has 9 tokens here and 3 there"):
        read_rollouts(path, PAIRS, longer)
