"""How the answers of an evaluation are asked for, as its result states it."""

from __future__ import annotations

from r1reward.evaluation.evaluation import Conditions
from r1reward.evaluation.items import Benchmark
from r1reward.recipe.sections import EvaluateSection


def build_conditions(
    model: str,
    benchmark: Benchmark,
    data: str,
    evaluate: EvaluateSection,
    seed: int,
    template: str,
) -> Conditions:
    """The conditions under which ``evaluate`` asks ``model`` about the rows of ``benchmark``.

    ``model`` and ``data`` are names for readers of the result: which model was asked, and where the
    rows come from. ``template`` is the recipe's ``prompt.template``.
    """
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
        seed=seed,
        template=template,
        adaptive=evaluate.adaptive,
    )
