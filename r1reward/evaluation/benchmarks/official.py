"""How each benchmark says that it is to be run and scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.mm_rlhf_rewardbench import score_mm_rlhf_rewardbench
from r1reward.evaluation.benchmarks.multimodal_rewardbench import score_multimodal_rewardbench
from r1reward.evaluation.benchmarks.scores import OfficialScore
from r1reward.evaluation.benchmarks.vl_rewardbench import score_vl_rewardbench
from r1reward.evaluation.items import Benchmark
from r1reward.recipe.choices import OrderMode


@dataclass(frozen=True)
class OfficialProtocol:
    """Samples a row, how they are drawn, in which order of the responses, and the rule of scoring.

    The comments name the published scripts that each protocol is taken from.
    """

    num_samples: int
    temperature: float
    top_p: float
    orders: OrderMode
    score: Callable[[Benchmark, Sequence[Answer]], OfficialScore]


# Sets of pairs without a rule of their own have none.
PROTOCOLS: Mapping[str, OfficialProtocol] = {
    # inference_hf.py (k = 10, a coin for the order of each call) and cal.py.
    "vl-rewardbench": OfficialProtocol(10, 0.2, 0.2, "random", score_vl_rewardbench),
    # cal_performance_mmreweard_bench.py. The benchmark scores responses one by one, so it prescribes no
    # order. R1-Reward shows the preferred one first, where a model that always answers 1 scores 100 %;
    # here the order of a row is drawn by the seed.
    "mm-rlhf-rewardbench": OfficialProtocol(1, 0.0, 1.0, "single", score_mm_rlhf_rewardbench),
    # 1_run_model_as_judge_gpt4o.py, which leaves sampling to the API's default temperature of 1, and
    # 2_get_accuracy.py.
    "multimodal-rewardbench": OfficialProtocol(1, 1.0, 1.0, "stored", score_multimodal_rewardbench),
}
