"""The conditions of an evaluation, and how they follow from its settings or its answers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.items import Benchmark
from r1reward.recipe.choices import OrderMode
from r1reward.recipe.sections import EvaluateSection, PromptSection


@dataclass(frozen=True)
class Conditions:
    """How the answers were asked for; without this no number can be compared.

    ``num_samples`` is K of voting@K; with both orders an odd K takes one sample more, so that either
    order can have the extra vote. ``adaptive`` is the error allowed to adaptive voting (0: exact), None
    when every row got all its samples. What a file of predictions does not tell is None.
    """

    model: str
    benchmark: str
    data: str
    num_rows: int
    num_dropped: Mapping[str, int]
    orders: OrderMode
    num_samples: int
    temperature: float | None
    top_p: float | None
    seed: int
    template: str | None
    adaptive: float | None = None
    image_off: bool = False
    format_mode: str | None = None
    images_last: bool | None = None
    max_new_tokens: int | None = None


ORDERS_IN_WORDS: Mapping[OrderMode, str] = {
    "both": "both orders",
    "single": "one seeded order a row",
    "stored": "stored order",
    "authors": "preferred response first",
    "random": "a seeded order a sample",
    "parity": "an order by the parity of the responses' length",
}


def condition_facts(asked: Conditions) -> dict[str, str]:
    """How the answers were asked for, by label: for the terminal and the page."""
    dropped = [f"{count} {reason.replace('_', ' ')}" for reason, count in asked.num_dropped.items()]
    facts = {
        "Model": asked.model,
        "Benchmark": asked.benchmark,
        "Data": asked.data,
        "Rows": str(asked.num_rows),
        "Dropped": ", ".join(dropped) or "none",
        "Orders": ORDERS_IN_WORDS[asked.orders],
        "Samples a row (K)": str(asked.num_samples),
        "Temperature": known(asked.temperature),
        "Top-p": known(asked.top_p),
        "Seed": str(asked.seed),
        "Prompt template": known(asked.template),
        "Answers are read": known(asked.format_mode),
        "New tokens at most": known(asked.max_new_tokens),
    }
    if asked.images_last:
        facts["Image place"] = "behind the text"
    if asked.adaptive is not None:
        facts["Adaptive voting"] = f"allowed error {asked.adaptive:g}"
    if asked.image_off:
        facts["Images"] = "left out on purpose"
    return facts


def known(value: float | str | None) -> str:
    return "not known" if value is None else str(value)


@dataclass(frozen=True)
class Asking:
    """How a model is asked, by the sections of a recipe. ``max_new_tokens`` is the recipe's."""

    evaluate: EvaluateSection
    prompt: PromptSection
    max_new_tokens: int
    seed: int


def build_conditions(model: str, benchmark: Benchmark, data: str, asking: Asking) -> Conditions:
    """Returns the conditions under which ``model`` is asked about the rows of ``benchmark``.

    ``model`` and ``data`` are names for readers of the result: which model was asked, and where the rows
    come from.
    """
    evaluate, prompt = asking.evaluate, asking.prompt
    return Conditions(
        model=model,
        benchmark=benchmark.name,
        data=data,
        num_rows=len(benchmark.items),
        num_dropped=benchmark.num_dropped,
        orders=evaluate.orders,
        num_samples=evaluate.samples,
        temperature=evaluate.sampling_temperature,
        top_p=evaluate.top_p,
        seed=asking.seed,
        template=prompt.template,
        adaptive=evaluate.adaptive,
        format_mode=prompt.format_mode,
        images_last=prompt.images_last,
        max_new_tokens=asking.max_new_tokens,
    )


def predicted_conditions(
    planned: Conditions, benchmark: Benchmark, answers: Sequence[Answer]
) -> Conditions:
    """Returns what a file of predictions shows of how it was made: orders and samples, nothing else."""
    planned = replace(planned, temperature=None, top_p=None, template=None, adaptive=None)
    planned = replace(planned, format_mode=None, images_last=None, max_new_tokens=None)
    per_order = Counter((answer.item, answer.order) for answer in answers)
    asked = per_order.keys()
    splits = [(per_order[i.key, "stored"], per_order[i.key, "swapped"]) for i in benchmark.items]
    orders: OrderMode = "single"
    if tossed_orders(splits):
        return replace(planned, orders="random", num_samples=sum(splits[0]))
    if len(asked) == 2 * len(benchmark.items):
        orders = "both"
    elif all(answer.order == "stored" for answer in answers):
        orders = "stored"
    elif asked == {(item.key, item.preferred_first) for item in benchmark.items}:
        orders = "authors"
    elif asked == {(item.key, item.parity_order) for item in benchmark.items}:
        orders = "parity"
    # The odd K that two pools of this size are the full plan of, as for a model that is asked.
    smallest = min(count for split in splits for count in split if count)
    num_samples = 2 * smallest - 1 if orders == "both" else smallest
    return replace(planned, orders=orders, num_samples=num_samples)


def tossed_orders(splits: Sequence[tuple[int, int]]) -> bool:
    """Returns whether each sample's order was a coin's: as many samples a row, in halves of all sizes."""
    return (
        len({stored + swapped for stored, swapped in splits}) == 1
        and len(set(splits)) > 1
        and any(stored and swapped for stored, swapped in splits)
        and any(abs(stored - swapped) > 1 for stored, swapped in splits)
    )
