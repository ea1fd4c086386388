"""Rollouts in Parquet: everything that was sampled, judged and rewarded in a step.

A row refers to its pair by content hash; images stay in the data source. With that source a saved
batch can be trained on again without any engine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from r1reward.data.atomic import written_whole
from r1reward.errors import DataError
from r1reward.types import (
    Order,
    PreferencePair,
    Prompt,
    Reward,
    Rollout,
    RolloutRequest,
    ScoredRollout,
    Verdict,
)

SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("order", pa.string()),
        ("sample_index", pa.int32()),
        ("seed", pa.int64()),
        ("label", pa.int8()),
        ("prompt", pa.string()),
        ("text", pa.string()),
        ("analysis", pa.string()),
        ("choice", pa.int8()),
        ("well_formed", pa.bool_()),
        ("reward", pa.float64()),
        ("result", pa.float64()),
        ("consistency", pa.float64()),
        ("format", pa.float64()),
        ("judge_word", pa.string()),
        ("position", pa.float64()),  # null in files from before there was one
        ("finish_reason", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("response_token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("policy_versions", pa.list_(pa.int32())),
    ]
)

REWARD_PARTS = ("result", "consistency", "format", "judge_word", "position")


def rollout_row(scored: ScoredRollout) -> dict[str, object]:
    """Returns the row of a rollout."""
    rollout, verdict, reward = scored.rollout, scored.verdict, scored.reward
    prompt = rollout.request.prompt
    return {
        "pair_id": prompt.stored_pair.pair_id,
        "order": prompt.order,
        "sample_index": rollout.request.sample_index,
        "seed": rollout.request.seed,
        "label": prompt.label,
        "prompt": prompt.text,
        "text": rollout.text,
        **asdict(verdict),
        "reward": reward.total,
        **{name: getattr(reward, name) for name in REWARD_PARTS},
        "finish_reason": rollout.finish_reason,
        "prompt_token_ids": list(rollout.prompt_token_ids),
        "response_token_ids": list(rollout.response_token_ids),
        "logprobs": rollout.logprobs,
        "policy_versions": rollout.policy_versions.astype(np.int32),
    }


def rollout_path(folder: Path, step: int) -> Path:
    """Returns the file of the batch that step ``step`` (from 0) trains on; names count from 1."""
    return folder / f"step-{step + 1:06d}.parquet"


def write_rollouts(path: Path, rollouts: Sequence[ScoredRollout]) -> None:
    """Writes the file whole or not at all: it is written under a temporary name and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([rollout_row(scored) for scored in rollouts], schema=SCHEMA)
    with written_whole(path) as partial:
        pq.write_table(table, partial)


def check_rollouts(folder: Path, steps: range) -> None:
    """Checks that ``folder`` holds saved rollouts for every one of ``steps`` (counted from 0).

    Raises ``DataError`` that names the setting ``train.from_rollouts`` and what to change.
    """
    missing = next((step for step in steps if not rollout_path(folder, step).is_file()), None)
    if missing is None:
        return
    if not folder.is_dir():
        reason = "no such folder"
    else:
        reason = f"the folder has no {rollout_path(folder, missing).name}"
    shorter = f", or set train.num_steps={missing}" if missing else ""
    raise DataError(
        f"train.from_rollouts: {folder}: {reason}: name the rollouts folder of a run of at least "
        f"{steps.stop} steps{shorter}"
    )


def read_rollouts(
    path: Path,
    pairs: Mapping[str, PreferencePair],
    encode: Callable[[PreferencePair, Order], Prompt],
) -> list[ScoredRollout]:
    """Returns the batch as it was saved. ``pairs`` maps pair ids to pairs, ``encode`` rebuilds prompts.

    Raises ``DataError`` for a pair that the data source no longer has, or token ids of another
    tokenizer.
    """
    rollouts = []
    for number, row in enumerate(pq.read_table(path, schema=SCHEMA).to_pylist(), start=1):
        pair = pairs.get(row["pair_id"])
        if pair is None:
            raise DataError(
                f"{path} row {number}: pair {row['pair_id']} is not in data.train; "
                "name the source these rollouts were made from"
            )
        prompt = encode(pair, row["order"])
        if prompt.num_tokens != len(row["prompt_token_ids"]):
            raise DataError(
                f"{path} row {number}: the prompt has {prompt.num_tokens} tokens here and "
                f"{len(row['prompt_token_ids'])} there; use the model and prompt settings of that run"
            )
        rollouts.append(rollout_from_row(row, prompt))
    return rollouts


def rollout_from_row(row: Mapping[str, Any], prompt: Prompt) -> ScoredRollout:
    """Returns the rollout of a row; its prompt is made anew."""
    rollout = Rollout(
        request=RolloutRequest(prompt, row["sample_index"], row["seed"]),
        prompt_token_ids=tuple(row["prompt_token_ids"]),
        response_token_ids=tuple(row["response_token_ids"]),
        text=row["text"],
        logprobs=np.asarray(row["logprobs"], dtype=np.float32),
        policy_versions=np.asarray(row["policy_versions"], dtype=np.int64),
        finish_reason=row["finish_reason"],
    )
    verdict = Verdict(row["analysis"], row["choice"], row["well_formed"])
    reward = Reward(total=row["reward"], **{name: row[name] for name in REWARD_PARTS})
    return ScoredRollout(rollout, verdict, reward)
