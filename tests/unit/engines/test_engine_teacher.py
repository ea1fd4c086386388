"""A teacher in engines of our own: its reply is the whole trace."""

import asyncio
from itertools import repeat

import pytest

from r1reward.engines.endpoint_errors import Breaker
from r1reward.engines.teachers import EngineTeacher
from r1reward.interfaces import Sampling
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.sections import ModelSection, PromptSection
from r1reward.shapes.pairs import make_pairs
from tests.fakes import FakeGenerator, right_answer


@pytest.mark.parametrize("opened", [True, False])
def test_a_reply_begins_with_the_tag_that_the_template_opened(opened: bool) -> None:
    processor = PolicyProcessor(
        ModelSection(path="shapes", max_prompt_tokens=400, max_new_tokens=64)
    )
    if opened:
        processor.processor.chat_template += "<think>\n"
    generator = FakeGenerator(
        lambda request: right_answer(request).removeprefix("<think>" if opened else "")
    )
    prompt = PromptSection(template="short")
    breaker = Breaker(has_answered=False)
    teacher = EngineTeacher(repeat(generator), processor, prompt, Sampling(1.0, 64), 400, breaker)

    async def admit() -> None:
        """Everybody may ask."""

    (pair,) = make_pairs("train", 1, seed=0)
    reply = asyncio.run(teacher.answer(pair, seed=1, admit=admit))
    label = pair.preferred
    assert reply.text == f"<think>Response {label} is better.</think><answer>{label}</answer>"
