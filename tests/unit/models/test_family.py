"""The seam to model families: a file where one differs, and nobody else who knows one by name."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

import r1reward
from r1reward.errors import InputError
from r1reward.models import qwen
from r1reward.models.family import MEASURED, MODULES, Family, family_of, load_config
from r1reward.models.generic import packed_positions, positions
from r1reward.models.lora import add_lora
from r1reward.models.policy import MicroBatchBuilder, load_hf_model
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.learner_sections import LoraSection
from r1reward.shapes.pairs import make_pairs
from r1reward.types import TraceSample
from tests.samples import local_recipe

RECIPE = local_recipe()
ROOT = Path(r1reward.__file__).parent


@pytest.fixture(scope="module")
def processor() -> PolicyProcessor:
    return PolicyProcessor(RECIPE.model)


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_model_type_has_its_family() -> None:
    for kind, module in MODULES.items():
        assert isinstance(import_module(module).FAMILIES[kind], Family)
    assert family_of(load_config("shapes")) is qwen.FAMILIES["qwen2_5_vl"]


def test_a_kind_without_a_file_takes_the_generic_path() -> None:
    assert not family_of(LlamaConfig()).sees_images
    assert family_of(LlavaConfig()).sees_images


def test_a_model_that_writes_no_text_is_refused() -> None:
    config = CLIPVisionConfig()
    config.name_or_path = "some/where"
    with pytest.raises(InputError) as error:
        family_of(config)
    assert str(error.value) == (
        "model.path: some/where holds a clip_vision_model model, which writes no text: choose a model "
        "of text, or of images and text"
    )


def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    settings = {"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "configuration_own.py").write_text("raise SystemExit")
    with pytest.raises(InputError) as error:
        load_config(str(tmp_path))
    assert str(error.value) == (
        f"model.path: {tmp_path} needs program code from its own folder, which r1reward does not run: "
        "choose a model that transformers has a class for"
    )


def names_and_texts(tree: ast.Module) -> Iterator[str]:
    """Everything that code is made of, without comments and docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings:
                yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name


def test_no_module_knows_a_family_by_name_or_by_its_insides() -> None:
    own = {ROOT / "models" / f"{module.rpartition('.')[2]}.py" for module in MODULES.values()}
    own.add(ROOT / "models" / "generic.py")
    insides = ("qwen", "grid_thw", "visual", "rope_index", "spatial_merge_size", "pixel_values")
    found = {
        f"{path.relative_to(ROOT)}: {text[:60]}"
        for path in ROOT.rglob("*.py")
        if path not in own
        for text in names_and_texts(ast.parse(path.read_text()))
        if any(word in text.lower() for word in insides) and text not in MODULES | {"visual": 0}
    }
    names = {*MODULES, *MODULES.values(), *MEASURED, "spatial_merge_size"}
    allowed = {f"models/family.py: {name}" for name in names}
    assert found - allowed == set()


def test_tokens_of_an_image_are_pixels_of_the_image_processor() -> None:
    limits = qwen.VISION.limits(load_config("shapes"), 4, 640)
    assert limits == {"size": {"shortest_edge": 3136, "longest_edge": 501760}}


def test_the_miniature_sees_its_images_as_in_version_0_1(processor: PolicyProcessor) -> None:
    """Its bounds were 12,000 and 13,000 pixels; now they are 15 and 17 tokens."""
    before = PolicyProcessor(RECIPE.model)
    before.processor.image_processor.size = {"shortest_edge": 12000, "longest_edge": 13000}
    images = [png(side, side) for side in (20, 38, 83, 112, 130, 213, 320, 448, 1000)]
    for split in ("train", "heldout", "hard_train", "hard_heldout"):
        images += [image for pair in make_pairs(split, 8, seed=3) for image in pair.images]
    for image in images:
        now, then = processor.image_tensors(image), before.image_tensors(image)
        assert now["image_grid_thw"].tolist() == [[1, 8, 8]]
        assert all(torch.equal(now[name], then[name]) for name in then)
        assert processor.num_image_tokens(image) == before.num_image_tokens(image) == 16


def test_the_tokens_of_an_image_are_counted_from_its_header(processor: PolicyProcessor) -> None:
    encoded = png(640, 480)
    assert processor.num_image_tokens(encoded[:64]) == processor.num_image_tokens(encoded) == 12
    with pytest.raises(ValueError, match="not a readable image"):
        processor.num_image_tokens(encoded[:8])
    with pytest.raises(ValueError, match="not a readable image"):
        processor.image_tensors(encoded[:64])


def positions_by_hand(
    prompt: list[int], image_id: int, grids: list[tuple[int, int]]
) -> list[list[int]]:
    """M-RoPE's time, row and column of every token; grids are rows and columns in tokens.

    Text counts on in all three. An image stands still in time, and what follows it goes on behind the
    larger of its sides.
    """
    places: list[tuple[int, int, int]] = []
    left = iter(grids)
    start = 0
    while len(places) < len(prompt):
        if prompt[len(places)] == image_id:
            rows, columns = next(left)
            places += [(start, start + r, start + c) for r in range(rows) for c in range(columns)]
            start += max(rows, columns)
        else:
            places.append((start, start, start))
            start += 1
    return [list(dimension) for dimension in zip(*places, strict=True)]


def test_two_images_of_different_sides_have_their_own_positions() -> None:
    """Two rows of three tokens and three rows of two: exchanged, nothing else would tell."""
    recipe = local_recipe("model.min_image_tokens=1", "model.max_image_tokens=64")
    processor = PolicyProcessor(recipe.model)
    images = (png(84, 56), png(56, 84))
    pair = replace(make_pairs("train", 1, seed=0)[0], images=images)
    prompt = processor.expand(processor.encode(pair, "stored", recipe.prompt))
    batch = MicroBatchBuilder(processor).build([TraceSample(prompt, (5, 6, 7), images)])
    assert batch.images["image_grid_thw"].tolist() == [[1, 4, 6], [1, 6, 4]]
    hf = load_hf_model(recipe.model)
    image_id = processor.image_token_id
    assert image_id is not None
    wanted = positions_by_hand([*prompt, 5, 6, 7], image_id, [(2, 3), (3, 2)])
    assert positions(hf, batch)[:, 0].tolist() == wanted
    packed = packed_positions(hf, batch)[:, 0].tolist()
    assert packed == [list(range(len(wanted[0]))), *wanted]


def test_adapters_go_only_to_layers_that_the_model_has() -> None:
    hf = load_hf_model(RECIPE.model)
    with pytest.raises(InputError) as error:
        add_lora(hf, LoraSection(targets=("qkv_proj",)), seed=0)
    assert str(error.value) == (
        "learner.lora.targets: a qwen2_5_vl model has no qkv_proj: choose of q_proj, k_proj, v_proj, "
        "o_proj, gate_proj, up_proj, down_proj"
    )
