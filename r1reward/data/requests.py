"""Pairs to requests: encode, drop what is too long, deal out each step's batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r1reward.data.order import derive_seed, step_pairs
from r1reward.data.stores.pair_store import LazySequence, distinct_pairs
from r1reward.errors import InputError
from r1reward.recipe.engine_sections import RolloutSection
from r1reward.types import Order, PreferencePair, Prompt, RolloutRequest

Encode = Callable[[PreferencePair, Order], Prompt]
ORDERS: tuple[Order, Order] = ("stored", "swapped")


@dataclass(frozen=True)
class PromptSet:
    """The pairs of a source whose prompts fit in both orders, each once, and how many others there were:
    too long in one order, or repeated.
    """

    pairs: Sequence[PreferencePair]
    encode: Encode
    num_too_long: int
    num_repeated: int = 0


def build_prompt_set(
    pairs: Sequence[PreferencePair], encode: Encode, max_prompt_tokens: int, what: str
) -> PromptSet:
    """Drop what is too long in either order (one prompt would fail its batch), and repeated pairs.

    Raises ``InputError`` when nothing is left.
    """
    kept: list[int] = []
    num_distinct = 0
    for index, _, pair in distinct_pairs(pairs):
        num_distinct += 1
        if all(encode(pair, order).num_tokens <= max_prompt_tokens for order in ORDERS):
            kept.append(index)
    if not kept:
        raise InputError(
            f"{what}: every prompt is longer than model.max_prompt_tokens ({max_prompt_tokens}): "
            "raise it, or lower model.max_image_tokens"
        )
    return PromptSet(
        LazySequence(kept, pairs.__getitem__),
        encode,
        num_too_long=num_distinct - len(kept),
        num_repeated=len(pairs) - num_distinct,
    )


def training_requests(
    rollout: RolloutSection, seed: int, prompts: PromptSet, step: int, sampling_round: int = 0
) -> list[RolloutRequest]:
    """The requests of one step, samples of a prompt next to each other, then its other order if shown.

    Round 0 walks through the data. Every later round, of which dynamic sampling takes what it needs, is
    an order of its own through the same data: a function of seed, step and round, so a resumed run
    draws the same.
    """
    walk = derive_seed(seed, "round", sampling_round) if sampling_round else seed
    chosen = step_pairs(
        len(prompts.pairs), rollout.pairs_per_step, walk, step, no_repeats=rollout.both_orders
    )
    return [
        RolloutRequest(prompt, sample, derive_seed(seed, step, prompt.prompt_id, sample))
        for index, order in chosen
        for shown in (ORDERS if rollout.both_orders else (order,))
        for prompt in [prompts.encode(prompts.pairs[index], shown)]
        for sample in range(rollout.samples_per_prompt)
    ]
