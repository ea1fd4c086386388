"""Pairs to requests: what is dropped, and what each step asks for."""

import pytest

from r1reward.data.requests import build_prompt_set, training_requests
from r1reward.recipe.recipe import Recipe
from r1reward.types import Order, PreferencePair, Prompt

PAIRS = [PreferencePair(f"q{i}", (), "a", "b", preferred=1) for i in range(6)]


def encode(pair: PreferencePair, order: Order) -> Prompt:
    """A prompt as long as the number in its question; the swapped order is one token longer."""
    shown = pair if order == "stored" else pair.swapped()
    length = int(pair.question[1:]) + (order == "swapped")
    return Prompt(f"{pair.pair_id}-{order}", shown, order, "", (), length)


def test_pairs_too_long_in_either_order_are_dropped_and_counted() -> None:
    prompts = build_prompt_set(PAIRS, encode, max_prompt_tokens=3, what="data.train")
    assert [pair.question for pair in prompts.pairs] == ["q0", "q1", "q2"]
    assert (prompts.num_too_long, prompts.num_repeated) == (3, 0)


def test_a_repeated_pair_is_not_counted_as_too_long() -> None:
    prompts = build_prompt_set([*PAIRS, *PAIRS[:2], PAIRS[5]], encode, 3, "data.train")
    assert [pair.question for pair in prompts.pairs] == ["q0", "q1", "q2"]
    assert (prompts.num_too_long, prompts.num_repeated) == (3, 3)


def test_a_source_of_which_nothing_fits_is_an_error_that_says_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"data\.heldout: .* model\.max_prompt_tokens \(2\)"):
        build_prompt_set(PAIRS[2:], encode, max_prompt_tokens=2, what="data.heldout")


def test_a_step_asks_for_its_prompts_with_samples_side_by_side(tiny_recipe: Recipe) -> None:
    rollout = tiny_recipe.rollout.model_copy(update={"samples_per_prompt": 2})
    recipe = tiny_recipe.model_copy(update={"rollout": rollout})
    prompts = build_prompt_set(PAIRS, encode, 100, "data.train")
    requests = training_requests(recipe.rollout, recipe.seed, prompts, step=0)
    assert [request.sample_index for request in requests] == [0, 1] * 4
    ids = [request.prompt.prompt_id for request in requests]
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == 4
    assert len({request.seed for request in requests}) == 8


# Regression: equal rows are several pairs with one id: a step can hold the
# same sample twice, and rollouts.score_rollouts stops the run with its own assertion. Of three equal
# rows at least two are shown in the same order.
def test_a_pair_stored_thrice_does_not_make_the_same_sample_twice(tiny_recipe: Recipe) -> None:
    prompts = build_prompt_set([*[PAIRS[0]] * 3, PAIRS[1]], encode, 100, "data.train")
    requests = training_requests(tiny_recipe.rollout, tiny_recipe.seed, prompts, step=0)
    assert len({(r.prompt.prompt_id, r.sample_index) for r in requests}) == len(requests) == 4


def test_requests_are_a_function_of_recipe_and_step(tiny_recipe: Recipe) -> None:
    prompts = build_prompt_set(PAIRS, encode, 100, "data.train")
    assert training_requests(
        tiny_recipe.rollout, tiny_recipe.seed, prompts, 1
    ) == training_requests(tiny_recipe.rollout, tiny_recipe.seed, prompts, 1)
    other = tiny_recipe.model_copy(update={"seed": 1})
    assert training_requests(other.rollout, other.seed, prompts, 1) != training_requests(
        tiny_recipe.rollout, tiny_recipe.seed, prompts, 1
    )


def test_the_same_prompt_two_epochs_later_has_another_seed(tiny_recipe: Recipe) -> None:
    prompts = build_prompt_set(PAIRS[:4], encode, 100, "data.train")
    first = {
        r.prompt.prompt_id: r.seed
        for r in training_requests(tiny_recipe.rollout, tiny_recipe.seed, prompts, 0)
    }
    third = {
        r.prompt.prompt_id: r.seed
        for r in training_requests(tiny_recipe.rollout, tiny_recipe.seed, prompts, 2)
    }
    assert first.keys() == third.keys()
    assert not set(first.values()) & set(third.values())


def test_the_label_follows_the_order(tiny_recipe: Recipe) -> None:
    prompts = build_prompt_set(PAIRS, encode, 100, "data.train")
    requests = [
        r
        for step in range(3)
        for r in training_requests(tiny_recipe.rollout, tiny_recipe.seed, prompts, step)
    ]
    assert {(r.prompt.order, r.prompt.label) for r in requests} == {("stored", 1), ("swapped", 2)}


def with_rollout(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update={"rollout": recipe.rollout.model_copy(update=changes)})


def test_both_orders_of_a_pair_are_shown_next_to_each_other(tiny_recipe: Recipe) -> None:
    recipe = with_rollout(tiny_recipe, both_orders=True, samples_per_prompt=2)
    prompts = build_prompt_set(PAIRS, encode, 100, "data.train")
    requests = training_requests(recipe.rollout, recipe.seed, prompts, step=0)
    assert len(requests) == 8  # four prompts of two pairs
    shown = [(r.prompt.stored_pair.question, r.prompt.order, r.sample_index) for r in requests]
    first, second = shown[0][0], shown[4][0]
    assert first != second
    assert shown == [
        (question, order, sample)
        for question in (first, second)
        for order in ("stored", "swapped")
        for sample in (0, 1)
    ]
    three = [
        r
        for step in range(3)
        for r in training_requests(recipe.rollout, recipe.seed, prompts, step)
    ]
    assert len({r.prompt.prompt_id for r in three}) == 12  # an epoch is every pair in both orders


# Regression: a pair at the end of one epoch and at the beginning of the next was asked for twice with the
# same seeds, so the step trained on exact copies, 6 different requests of 8.
def test_both_orders_across_the_end_of_an_epoch_make_no_copies(tiny_recipe: Recipe) -> None:
    recipe = with_rollout(tiny_recipe, both_orders=True, prompts_per_step=8)
    prompts = build_prompt_set([*PAIRS], encode, 100, "data.train")
    for step in range(12):
        for sampling_round in range(3):
            requests = training_requests(recipe.rollout, recipe.seed, prompts, step, sampling_round)
            assert len({(r.prompt.prompt_id, r.sample_index) for r in requests}) == 8


@pytest.mark.parametrize("samples_per_prompt", [1, 2])
def test_every_request_of_a_step_has_a_seed_of_its_own(
    tiny_recipe: Recipe, samples_per_prompt: int
) -> None:
    """Also the two orders of a pair: with one seed their samples would not be independent."""
    recipe = with_rollout(tiny_recipe, both_orders=True, samples_per_prompt=samples_per_prompt)
    prompts = build_prompt_set(PAIRS, encode, 100, "data.train")
    for step in range(3):
        requests = training_requests(recipe.rollout, recipe.seed, prompts, step)
        assert len({request.seed for request in requests}) == len(requests)


def test_further_rounds_are_orders_of_their_own_that_repeat(tiny_recipe: Recipe) -> None:
    prompts = build_prompt_set(PAIRS, encode, 100, "data.train")
    rounds = [
        training_requests(tiny_recipe.rollout, tiny_recipe.seed, prompts, 1, number)
        for number in range(4)
    ]
    assert rounds[0] == training_requests(tiny_recipe.rollout, tiny_recipe.seed, prompts, 1)
    assert rounds[2] == training_requests(tiny_recipe.rollout, tiny_recipe.seed, prompts, 1, 2)
    orders = [tuple(r.prompt.prompt_id for r in requests) for requests in rounds]
    assert len(set(orders)) == 4
    other = tiny_recipe.model_copy(update={"seed": 1})
    assert training_requests(other.rollout, other.seed, prompts, 1, 2) != rounds[2]
