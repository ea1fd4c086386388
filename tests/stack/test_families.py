"""Two families on the real engines; `make families` has all of them."""

from __future__ import annotations

import asyncio

import pytest

from r1reward.pipeline.engine_check import EngineCheck
from r1reward.recipe.engine_sections import PlacementSection
from tests.tiny_families import tiny_section


@pytest.mark.parametrize("name", ["qwen3_vl", "internvl"])
def test_engine_and_learner_agree(name: str) -> None:
    placement = PlacementSection(device="cpu", threads=1, object_store_mb=256)
    model = tiny_section(name, max_prompt_tokens=2048, max_new_tokens=24, max_images=2)
    cells = asyncio.run(EngineCheck(model, placement).cells())
    assert [cell for cell in cells if not cell.is_right] == []
    assert len(cells) == 7
