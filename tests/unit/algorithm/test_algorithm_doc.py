"""docs/algorithm.md names functions and settings: they have to be there."""

import importlib
import re
from pathlib import Path

from r1reward.recipe.learner_sections import AlgorithmSection

TEXT = (Path(__file__).parents[3] / "docs" / "algorithm.md").read_text()


def test_every_function_that_the_document_names_exists() -> None:
    found = re.findall(r"`(advantage|batch|correction|kl|loss|reward)\.(\w+)`", TEXT)
    assert ("loss", "policy_loss") in found and len(found) > 10
    for module, name in found:
        assert hasattr(importlib.import_module(f"r1reward.algorithm.{module}"), name), name


def test_every_switch_of_the_loss_is_in_the_document() -> None:
    names = list(AlgorithmSection.model_fields)
    first, last = names.index("clip_epsilon_high"), names.index("rollout_correction")
    for name in names[first : last + 1]:
        assert re.search(rf"`{name}\b", TEXT), name
