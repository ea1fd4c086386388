"""What a recipe needs, against published numbers and sums made by hand."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

from r1reward.cli.main import main
from r1reward.models.lora import add_lora
from r1reward.models.model_shape import read_model_shape
from r1reward.recipe.files import load_recipe
from r1reward.recipe.learner_sections import LearnerSection, LoraSection
from r1reward.shapes import MODEL_DIR
from r1reward.sizing.engine_memory import cache_bytes_per_token, engine_memory
from r1reward.sizing.learner_memory import Trained, learner_states, trained
from r1reward.sizing.memory_plan import Holder, changes, learner_peak, sampling_holder
from r1reward.sizing.plan_table import Hardware, fill_nodes, plan_memory
from tests.samples import learner_case, local_recipe

pytestmark = pytest.mark.slow  # models of the real sizes are built

RECIPES = Path(__file__).parents[3] / "recipes"
PAPER = str(RECIPES / "r1_reward_7b.yaml")
NO_CHECKPOINTING = "learner.gradient_checkpointing=false"


@pytest.mark.parametrize(
    ("path", "published"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656),
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976),  # tied embeddings count once
    ],
)
def test_known_models_have_their_published_size(path: str, published: int) -> None:
    assert read_model_shape(path).num_parameters == published


def test_keys_and_values_of_a_token() -> None:
    model = read_model_shape("Qwen/Qwen2.5-VL-7B-Instruct")
    assert cache_bytes_per_token(model, "bfloat16", 1) == 2 * 28 * 4 * 128 * 2
    assert cache_bytes_per_token(model, "bfloat16", 2) == 28 * 4 * 128 * 2
    # Four key heads on seven GPUs: each still holds a whole one.
    assert cache_bytes_per_token(model, "float32", 7) == 2 * 28 * 128 * 4


def test_a_smaller_gpu_leaves_less_for_the_cache() -> None:
    recipe = load_recipe(PAPER)
    model = read_model_shape(recipe.model.path)
    sizes = [
        engine_memory(model, recipe.model, recipe.rollout.engine, room * 10**9).cache
        for room in (75, 80)
    ]
    assert sizes[1] - sizes[0] == pytest.approx(0.9 * 5e9)


COUNT = Trained(
    num_base=1000, num_adapter=0, num_trainable=800, largest_weight=100, largest_group=600
)


@pytest.mark.parametrize(
    ("dtype", "stage", "held"),
    [
        ("float32", 0, (4000, 0, 3200, 6400)),
        ("bfloat16", 1, (2000, 800, 6 * 800, 1600)),
        ("bfloat16", 2, (2000, 800, 800, 1600)),
        ("bfloat16", 3, (500, 800, 800, 1600)),
        ("float32", 3, (1000, 800, 800, 1600)),
    ],
)
def test_what_four_ranks_hold(dtype: str, stage: int, held: tuple[int, ...]) -> None:
    recipe = local_recipe(
        "learner.num_ranks=4", f"model.dtype={dtype}", f"learner.zero_stage={stage}"
    )
    found = learner_states(recipe.learner, recipe.model.dtype, False, COUNT)
    assert held == (
        found.parameters,
        found.master_weights,
        found.gradients,
        found.optimizer_state,
    )


def test_adapters_are_counted_as_they_are_added() -> None:
    settings = LoraSection(rank=8, targets=("q_proj", "down_proj"))
    with torch.device("meta"):
        hf = Qwen2_5_VLForConditionalGeneration(AutoConfig.from_pretrained(MODEL_DIR))
    hf = hf.to_empty(device="cpu")
    add_lora(hf, settings, seed=0)
    real = sum(p.numel() for p in hf.parameters() if p.requires_grad)
    count = trained(read_model_shape("shapes"), LearnerSection(lora=settings))
    assert (count.num_trainable, count.num_adapter) == (real, real)


def test_frozen_parts_have_no_state() -> None:
    model = read_model_shape("shapes")
    recipe = local_recipe("learner.parts.vision.trainable=false")
    vision = sum(weight.numel for weight in model.weights if weight.part == "vision")
    count = trained(model, recipe.learner)
    assert vision > 0 and count.num_trainable == model.num_parameters - vision
    assert count.num_held == model.num_parameters


def test_the_papers_recipe_fits_its_eight_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", PAPER]) == 0
    shown = capsys.readouterr().out
    assert "needs 8 GPUs on 1 node(s) of 8: 3 rollout + 1 judge + 4 learner" in shown
    assert "8.29 B parameters" in shown.replace("\n", "")


def test_what_does_not_fit_is_status_1_and_names_the_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", PAPER, NO_CHECKPOINTING]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "does not fit: a learner rank needs" in shown
    assert "set learner.gradient_checkpointing=true" in shown


def test_the_advice_makes_it_fit() -> None:
    recipe = load_recipe(PAPER, [NO_CHECKPOINTING, "learner.zero_stage=2"])
    (problem,) = plan_memory(recipe, Hardware(gpu_gb=60)).problems
    turned = [
        word.split(" ")[0]
        for word in problem.replace("set ", "then ").split("then ")[1:]
        if word.startswith("learner.")
    ]
    assert len(turned) >= 2
    helped = load_recipe(PAPER, [NO_CHECKPOINTING, "learner.zero_stage=2", *turned])
    model = read_model_shape(recipe.model.path)
    assert (
        learner_peak(learner_case(helped, model))
        <= 60e9
        < learner_peak(learner_case(recipe, model))
    )


def test_an_engine_without_room_for_a_sequence() -> None:
    (*_, problem) = [
        problem
        for problem in plan_memory(load_recipe(PAPER), Hardware(gpu_gb=20)).problems
        if "rollout engine" in problem
    ]
    assert "raise rollout.engine.tensor_parallel_size (now 1)" in problem


def test_nodes_are_filled_and_too_wide_engines_named() -> None:
    bundles = {
        "rollout": [{"CPU": 1.0, "GPU": 4.0}] * 2,
        "judge": [{"CPU": 1.0}],
        "learner": [{"CPU": 1.0, "GPU": 1.0}] * 4,
    }
    nodes, wide = fill_nodes(bundles, 8)  # type: ignore[arg-type]
    assert nodes == [{"rollout": 2, "judge": 1}, {"learner": 4}] and not wide
    _, wide = fill_nodes(bundles, 2)  # type: ignore[arg-type]
    assert len(wide) == 1 and "rollout.engine.tensor_parallel_size" in wide[0]


def test_a_small_object_store_is_seen() -> None:
    (problem,) = plan_memory(
        load_recipe(PAPER, ["placement.object_store_mb=20000"]), Hardware()
    ).problems
    assert "two bundles of weights take 31,632 MB" in problem


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([PAPER, "--gpu-gb", "0"], "--gpu-gb is 0"),
        ([PAPER, "model.path=some/where"], "neither a folder nor in the hub's cache"),
        ([PAPER, "model.path=recipes"], "recipes is no model folder"),
        (["nowhere.yaml"], "nowhere.yaml: no such recipe file"),
    ],
)
def test_bad_input_is_status_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(RECIPES.parent)
    assert main(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def node_of(overrides: list[str], hardware: Hardware) -> Holder:
    plan = plan_memory(load_recipe(PAPER, overrides), hardware)
    (node,) = [holder for holder, _ in plan.holders if holder.title == "node"]
    return node


@pytest.mark.parametrize(
    ("dtype", "note"),
    [("bfloat16", "356 of max_image_tokens"), ("float32", "178 of max_image_tokens")],
)
def test_images_that_the_learner_remembers_take_what_the_recipe_gives_them(
    dtype: str, note: str
) -> None:
    node = node_of([f"model.dtype={dtype}"], Hardware())
    (line,) = [line for line in node.lines if line.name == "images, learner"]
    assert line.num_bytes == 4 * 2048 * 2**20
    assert line.note == f"{note} a rank"
    node = node_of(["learner.image_cache_mb=0"], Hardware())
    assert "images, learner" not in [line.name for line in node.lines]


def test_a_node_too_small_for_the_images_is_helped_by_remembering_fewer() -> None:
    full = node_of([], Hardware())
    small = Hardware(host_gb=(full.peak - 8e9) / 1e9)
    assert "lower learner.image_cache_mb" in node_of([], small).problem
    assert node_of(["learner.image_cache_mb=128"], small).problem == ""


COLOCATE = (
    "placement.mode=colocate",
    "rollout.num_actors=4",
    "rollout.engine.gpu_memory_utilization=0.55",
    "judge.engine.gpu_memory_utilization=0.4",
    "learner.zero_stage=2",
)


def test_engines_and_learner_that_take_turns_need_no_gpus_of_their_own() -> None:
    plan = plan_memory(load_recipe(PAPER, COLOCATE), Hardware(gpus_per_node=2))
    assert plan.num_gpus == 4
    assert plan.nodes == ({"rollout": 2, "judge": 1, "learner": 2}, {"rollout": 2, "learner": 2})
    counts = {holder.title: count for holder, count in plan.holders}
    assert counts == {
        "rollout engine": 4,
        "judge engine": 1,
        "shared GPU, sampling": 4,
        "learner rank": 4,
        "node": 2,
    }
    (host,) = [holder for holder, _ in plan.holders if holder.title == "node"]
    asleep = {line.name: line.num_bytes for line in host.lines}["asleep"]
    # Three engines' weights in bfloat16, and of two of four ranks 2 + (4 + 8) / 4 bytes a weight.
    assert asleep == pytest.approx(8_292_166_656 * (3 * 2 + 2 * (2 + 12 / 4)), rel=0.01)


def test_on_a_shared_gpu_both_sides_leave_cuda_behind_and_engines_their_graphs() -> None:
    def lines_of(title: str, *overrides: str) -> tuple[dict[str, int], int]:
        plan = plan_memory(load_recipe(PAPER, [*COLOCATE, *overrides]), Hardware())
        (holder,) = [holder for holder, _ in plan.holders if holder.title == title]
        return {line.name: line.num_bytes for line in holder.lines}, holder.peak

    sampling, peak = lines_of("shared GPU, sampling")
    assert sampling["learner asleep"] == 0.6e9
    assert peak == pytest.approx((0.55 + 0.4) * 80e9 + 0.6e9)
    learning, with_both = lines_of("learner rank")
    assert learning["engines asleep"] == 2 * (0.6e9 + 1.0e9)
    fewer, with_one = lines_of(
        "learner rank", "rollout.engine.enforce_eager=true", "judge={type: rule}"
    )
    assert fewer["engines asleep"] == 0.6e9
    assert with_both - with_one == 2.6e9


def test_engines_that_leave_no_room_for_the_rest_of_a_learner_are_seen() -> None:
    engines = [
        Holder(title, (), size, None)
        for title, size in (("rollout engine", 7_000_000_000), ("judge engine", 4_000_000_000))
    ]
    assert sampling_holder(engines, 11_600_000_000).problem == ""
    assert sampling_holder(engines, 11_500_000_000).problem == (
        "the engines of a shared GPU take 11.0 GB and its sleeping learner keeps 0.6, of 11.5: lower "
        "gpu_memory_utilization of rollout.engine or judge.engine"
    )


# Regression: what was named then is refused when a learner takes turns.
def test_a_learner_that_takes_turns_is_not_told_to_do_what_it_cannot() -> None:
    recipe = load_recipe(PAPER, [*COLOCATE, NO_CHECKPOINTING])
    model = read_model_shape(recipe.model.path)
    case = learner_case(recipe, model)
    named = {name for name, _ in changes(case)}
    assert named.isdisjoint({"zero_stage", "offload_optimizer"}) and "packing" in named


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(RECIPES.glob("*.yaml")) if "device: cuda" in path.read_text()]
    + sorted(RECIPES.glob("r1_reward_*_*.yaml")),
    ids=lambda path: path.stem,
)
def test_every_recipe_for_gpus_fits_its_gpus(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.placement.device == "cuda"
    assert plan_memory(recipe, Hardware()).problems == ()
