"""The conditions that an evaluation states, from what it was told to do."""

from r1reward.evaluation.conditions import Asking, Conditions, build_conditions
from r1reward.evaluation.items import Benchmark
from r1reward.recipe.sections import EvaluateSection, PromptSection
from tests.rows import make_item


def test_conditions_are_those_of_the_section_and_the_benchmark() -> None:
    benchmark = Benchmark("pairs", (make_item("a"), make_item("b")), {}, {"media missing": 3})
    evaluate = EvaluateSection(samples=5, orders="single", top_p=0.9, adaptive=0.1)
    prompt = PromptSection(template="short", format_mode="loose", images_last=True)
    asking = Asking(evaluate, prompt, max_new_tokens=96, seed=7)
    assert build_conditions("model", benchmark, "file", asking) == Conditions(
        model="model",
        benchmark="pairs",
        data="file",
        num_rows=2,
        num_dropped={"media missing": 3},
        orders="single",
        num_samples=5,
        temperature=1.0,
        top_p=0.9,
        seed=7,
        template="short",
        adaptive=0.1,
        image_off=False,
        format_mode="loose",
        images_last=True,
        max_new_tokens=96,
    )
