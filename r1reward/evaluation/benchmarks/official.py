"""How each benchmark, and each suite of benchmarks, asks a model and scores its answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.mm_rlhf_rewardbench import score_mm_rlhf_rewardbench
from r1reward.evaluation.benchmarks.multimodal_rewardbench import score_multimodal_rewardbench
from r1reward.evaluation.benchmarks.scores import OfficialScore
from r1reward.evaluation.benchmarks.suites import (
    score_lmms_eval_multimodal,
    score_lmms_eval_vl,
    score_vlmevalkit_vl,
)
from r1reward.evaluation.benchmarks.vl_rewardbench import score_vl_rewardbench
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.items import Benchmark
from r1reward.recipe.choices import OrderMode, SuiteName, TemplateName


@dataclass(frozen=True)
class Protocol:
    """Samples a row, how they are drawn, in which order of the responses, how they are asked for, and
    the rule of scoring.

    ``template`` is also the form in which answers are read; None: there is no prompt for pairs, so no
    way to ask is the protocol's own.
    """

    owner: str
    num_samples: int
    temperature: float
    top_p: float
    orders: OrderMode
    score: Callable[[Benchmark, Sequence[Answer]], OfficialScore]
    template: TemplateName | None = None
    images_last: bool = False
    max_new_tokens: int | None = None


# The comments name the published scripts that each protocol is taken from. Sets of pairs without a rule
# of their own have none.
PROTOCOLS: Mapping[str, Protocol] = {
    # inference_hf.py (k = 10, a coin for the order of each call, text before the image) and cal.py.
    "vl-rewardbench": Protocol(
        *("official", 10, 0.2, 0.2, "random", score_vl_rewardbench),
        template="vl-rewardbench",
        images_last=True,
        max_new_tokens=2048,
    ),
    # cal_performance_mmreweard_bench.py. The benchmark scores responses one by one, so it prescribes no
    # order. R1-Reward shows the preferred one first, where a model that always answers 1 scores 100 %;
    # here the order of a row is drawn by the seed.
    "mm-rlhf-rewardbench": Protocol("official", 1, 0.0, 1.0, "single", score_mm_rlhf_rewardbench),
    # 1_run_model_as_judge_gpt4o.py, which leaves sampling to the API's default temperature of 1, and
    # 2_get_accuracy.py.
    "multimodal-rewardbench": Protocol(
        *("official", 1, 1.0, 1.0, "stored", score_multimodal_rewardbench),
        template="multimodal-rewardbench",
        images_last=True,
        max_new_tokens=1024,
    ),
}
# Of lmms_eval/tasks/{vl_rewardbench,multimodal_rewardbench} and of vlmeval/dataset/vl_rewardbench.py.
# Both show the image before the text; VLMEvalKit leaves sampling to the model's own defaults.
SUITES: Mapping[tuple[SuiteName, str], Protocol] = {
    ("lmms-eval", "vl-rewardbench"): Protocol(
        *("lmms-eval's", 1, 1.0, 1.0, "parity", score_lmms_eval_vl),
        template="vl-rewardbench",
        max_new_tokens=1024,
    ),
    ("lmms-eval", "multimodal-rewardbench"): Protocol(
        *("lmms-eval's", 1, 0.0, 1.0, "stored", score_lmms_eval_multimodal),
        template="multimodal-rewardbench",
        max_new_tokens=1024,
    ),
    ("vlmevalkit", "vl-rewardbench"): Protocol(
        *("VLMEvalKit's", 1, 0.0, 1.0, "parity", score_vlmevalkit_vl),
        template="vl-rewardbench",
        max_new_tokens=2048,
    ),
}


def protocol_of(bench: str, official: bool, suite: SuiteName | None) -> Protocol | None:
    """Returns whose way to ask and to score is wanted, None if nobody's. Raises ``InputError`` where
    there is none.
    """
    if suite is not None:
        if (suite, bench) not in SUITES:
            raise InputError(f"{suite} has no rules for {bench}: leave out --suite")
        return SUITES[suite, bench]
    if not official:
        return None
    if bench not in PROTOCOLS:
        raise InputError(f"{bench} has no published scoring rule: leave out --official")
    return PROTOCOLS[bench]


def score_by_protocol(
    protocol: Protocol, benchmark: Benchmark, answers: Sequence[Answer], conditions: Conditions
) -> OfficialScore:
    """Returns the score by the protocol's rule, named by whether the answers were asked for in its way.

    Raises ``ValueError`` for answers that the rule cannot score.
    """
    score = protocol.score(benchmark, answers)
    differences = asked_otherwise(protocol, conditions)
    if not differences:
        return replace(score, name=f"{protocol.owner} asking and scoring")
    note = f"asked otherwise: {'; '.join(differences)}"
    return replace(score, name=f"{protocol.owner} scoring", notes=(*score.notes, note))


def asked_otherwise(protocol: Protocol, asked: Conditions) -> tuple[str, ...]:
    """Returns in what the answers were asked for in another way than the protocol's, a half sentence
    each.
    """
    if protocol.template is None:
        return ("the benchmark has no prompt for pairs",)
    facts: Mapping[str, tuple[object, object]] = {
        "prompt": (asked.template, protocol.template),
        "answers read as": (asked.format_mode, protocol.template),
        "images last": (asked.images_last, protocol.images_last),
        "new tokens at most": (asked.max_new_tokens, protocol.max_new_tokens),
        "orders": (asked.orders, protocol.orders),
        "samples": (asked.num_samples, protocol.num_samples),
        "temperature": (asked.temperature, protocol.temperature),
        "top-p": (asked.top_p, protocol.top_p),
    }
    return tuple(
        f"{name} {'not known' if real is None else real}, theirs {own}"
        for name, (real, own) in facts.items()
        if real != own
    )
