"""Recipes: inheritance, overrides, and errors that say what to change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from r1reward.errors import RecipeError
from r1reward.recipe.components import training_learner
from r1reward.recipe.engine_sections import OpenAIJudge, RuleJudge, VllmJudge
from r1reward.recipe.files import dump_recipe, load_recipe, merge
from r1reward.recipe.learner_sections import NoCorrection, SequenceMask, TokenIs
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import FileSource

RECIPES = sorted(
    path
    for path in (Path(__file__).parents[3] / "recipes").glob("**/*.yaml")
    if path.parent.name != "studies"  # grids, read by tests/unit/studies/test_stability.py
    if not path.name.startswith("mix_")  # compositions of data: test_mixing.py
)

SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "run_dir": "runs/tiny",
    "model": {"path": "shapes", "max_prompt_tokens": 64, "max_new_tokens": 16},
    "data": {"train": {"type": "shapes", "split": "train", "num_pairs": 8}},
    "rollout": {"prompts_per_step": 4},
    "judge": {"type": "rule"},
    "learner": {"train_batch_size": 2, "micro_batch_tokens": 80},
    "train": {"num_steps": 3},
}
OPENAI = "judge={type: openai, url: 'http://h/v1', model: m}"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write settings over ``SETTINGS`` (or, with a base, alone) as a recipe file."""

    def write_recipe(file_name: str = "recipe.yaml", /, **settings: object) -> Path:
        path = tmp_path / file_name
        content = settings if "base" in settings else {**SETTINGS, **settings}
        path.write_text(yaml.safe_dump(content))
        return path

    return write_recipe


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", RECIPES, ids=[path.name for path in RECIPES])
def test_every_recipe_of_the_repository_loads_under_its_own_name(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem.replace("_", "-")
    assert recipe.run_dir.name == recipe.name, "no two recipes share a run folder"


def test_there_are_recipes_to_load() -> None:
    assert "local.yaml" in [path.name for path in RECIPES]


def test_settings_are_read_and_the_rest_are_the_papers(write: Write) -> None:
    recipe = load_recipe(write())
    assert recipe.rollout.prompts_per_step == 4
    assert recipe.run_dir == Path("runs/tiny")
    assert isinstance(recipe.judge, RuleJudge)
    assert recipe.learner.lr == 1e-6
    assert recipe.algorithm.filter_sigma == 3.0
    assert (recipe.algorithm.pre_clip_min, recipe.algorithm.pre_clip_max) == (1e-3, 1e3)
    assert recipe.algorithm.clip_epsilon == 0.2
    assert recipe.algorithm.kl_beta == 0.0
    assert not recipe.algorithm.needs_reference


def test_derived_numbers(write: Write) -> None:
    recipe = load_recipe(write(), ["rollout.samples_per_prompt=3"])
    assert recipe.rollout.rollouts_per_step == 12
    assert training_learner(recipe).num_updates == 18  # 3 steps of 12 sequences in batches of 2


@pytest.mark.parametrize(
    ("override", "needed"),
    [
        ("algorithm.kl_beta=0.001", True),
        ("algorithm.log_reference_kl=true", True),
        ("algorithm.kl_beta=0", False),
    ],
)
def test_the_reference_model_is_needed_for_kl_only(
    write: Write, override: str, needed: bool
) -> None:
    assert load_recipe(write(), [override]).algorithm.needs_reference is needed


# Unknown keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learner.lrr=1", "learner.lrr: unknown key; did you mean 'lr'?"),
        ("lerner.lr=1", "lerner: unknown key; did you mean 'learner'?"),
        (
            "rollout.engine.max_num_seq=1",
            "rollout.engine.max_num_seq: unknown key; did you mean 'max_num_seqs'?",
        ),
        (
            "data.train.num_pars=1",
            "data.train.num_pars: unknown key; did you mean 'num_pairs'?",
        ),
        (
            "data.heldout={type: file, path: x, imags: y}",
            "data.heldout.imags: unknown key; did you mean 'images'?",
        ),
        (
            "judge={type: vllm, engine: {blok_size: 1}}",
            "judge.engine.blok_size: unknown key; did you mean 'block_size'?",
        ),
        ("judge.zzz=1", "judge.zzz: unknown key; known keys: type"),
        ("learner.lora.rnk=4", "learner.lora.rnk: unknown key; did you mean 'rank'?"),
        (
            "learner.parts.visual.lr_scale=1",
            "learner.parts.visual: unknown key; known keys: language, merger, vision",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    write: Write, override: str, message: str
) -> None:
    path = write()
    assert refused(path, override) == f"{path}:\n  {message}"


# Regression: keys that are also union tags are dropped from the name.
@pytest.mark.parametrize("key", ["file", "vllm"])
def test_an_unknown_key_that_is_also_a_type_is_named(write: Write, key: str) -> None:
    assert f"data.train.{key}: unknown key" in refused(
        write(), f"data.train={{type: file, path: x, {key}: y}}"
    )


def test_every_problem_is_named_at_once(write: Write) -> None:
    message = refused(write(), "learner.lrr=1", "model.dtype=float16", "train={}")
    assert "learner.lrr" in message
    assert "model.dtype: Input should be 'float32' or 'bfloat16', got 'float16'" in message


def test_a_missing_setting_is_named(write: Write) -> None:
    settings = {key: value for key, value in SETTINGS.items() if key != "judge"}
    path = write()
    path.write_text(yaml.safe_dump({**settings, "train": {}}))
    message = refused(path)
    assert "judge: missing, and it has no default" in message
    assert "train.num_steps: missing, and it has no default" in message


def test_an_unknown_type_names_the_known_ones(write: Write) -> None:
    message = refused(write(), "judge.type=opnai")
    assert "judge" in message
    assert all(repr(kind) in message for kind in ("rule", "vllm", "openai"))


def test_keys_that_are_no_words_are_refused(write: Write) -> None:
    path = write()
    path.write_text(path.read_text() + "1: 2\n")
    assert "Keys should be strings" in refused(path)


# Cross-field checks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["rollout.prompts_per_step=5"],
            "rollout.prompts_per_step * rollout.samples_per_prompt (5) must be a multiple of "
            "learner.train_batch_size (2): change one of the three",
        ),
        (
            ["learner.num_ranks=3"],
            "learner.train_batch_size (2) is below learner.num_ranks (3): "
            "every rank needs a sequence",
        ),
        (
            ["algorithm.baseline=group_mean"],
            "algorithm.baseline group_mean compares the samples of one prompt, but "
            "rollout.samples_per_prompt is 1: raise it, or set algorithm.baseline to none",
        ),
        (
            ["algorithm.normalize_scope=group"],
            "algorithm.normalize_scope group divides what a baseline leaves by the spread of the "
            "prompt's rewards: set algorithm.baseline to group_mean and algorithm.normalize to true, "
            "or normalize_scope to batch",
        ),
        (
            ["algorithm.filter_rule=keep_both_signs", "algorithm.filter_sigma=null"],
            "algorithm.filter_rule keep_both_signs works on advantages normalised over the batch: set "
            "algorithm.filter_sigma, normalize to true and normalize_scope to batch, or filter_rule "
            "to sigma",
        ),
        (
            ["rollout.dynamic_sampling.max_rounds=2"],
            "rollout.dynamic_sampling replaces prompts whose samples all came out alike, and a single "
            "one always does: raise rollout.samples_per_prompt above 1",
        ),
        (
            [
                "rollout.both_orders=true",
                "rollout.prompts_per_step=5",
                "learner.train_batch_size=5",
            ],
            "rollout.both_orders shows every pair twice, but rollout.prompts_per_step is 5: "
            "make it even",
        ),
        (
            ["reward.position_weight=0.5"],
            "reward.position_weight rewards pairs that are right in both orders: set "
            "rollout.both_orders to true, or reward.position_weight to 0",
        ),
        (
            ["learner.micro_batch_tokens=79"],
            "learner.micro_batch_tokens (79) cannot hold one sequence of "
            "model.max_prompt_tokens + model.max_new_tokens (80): raise it",
        ),
        (
            ["rollout.temperature=0.7"],
            "rollout.temperature is 0.7, but the engine reports log-probs before temperature, "
            "so training needs 1.0: set it back to 1.0",
        ),
        (
            ["model.min_image_tokens=1000", "model.max_image_tokens=500"],
            "model.min_image_tokens (1000) is above model.max_image_tokens (500): "
            "lower the first or raise the second",
        ),
        (
            ["placement.device=cpu", "rollout.engine.max_num_batched_tokens=63"],
            "on a CPU vLLM runs prompts unchunked, so rollout.engine.max_num_batched_tokens (63) "
            "must be at least model.max_prompt_tokens (64): raise the first or lower the second",
        ),
        (
            ["learner.packing=true", "model.attention=eager"],
            "learner.packing cuts sdpa's attention between samples, but model.attention is eager: "
            "set model.attention to sdpa or learner.packing to false",
        ),
        (
            ["learner.zero_stage=0"],
            "learner.zero_stage 0 would sum gradients in bfloat16, where small ones vanish: set "
            "learner.zero_stage to 1, 2 or 3, or model.dtype to float32",
        ),
        (
            [f"learner.parts.{part}.trainable=false" for part in ("vision", "merger", "language")],
            "learner.parts freezes vision, merger and language: nothing is left to train; "
            "set trainable to true for one of them",
        ),
        (
            ["learner.lora={}", "learner.parts.vision.trainable=false"],
            "learner.lora freezes every weight and trains adapters only, so learner.parts has "
            "nothing to say: remove one of the two",
        ),
        (
            [
                "learner.offload_optimizer=true",
                "placement.device=cpu",
                "rollout.engine.max_num_batched_tokens=64",
            ],
            "learner.offload_optimizer moves the optimizer from GPU to host memory, but with "
            "placement.device cpu it is there already: set learner.offload_optimizer to false",
        ),
        (
            ["learner.offload_optimizer=true", "learner.zero_stage=0", "model.dtype=float32"],
            "learner.offload_optimizer needs ZeRO, but learner.zero_stage is 0: "
            "set learner.zero_stage to 1, 2 or 3",
        ),
        (
            ["placement.mode=colocate", "rollout.engine.tensor_parallel_size=2"],
            "placement.mode colocate puts a whole engine on each GPU, but rollout.engine."
            "tensor_parallel_size is 2: set it to 1, or placement.mode to split",
        ),
        (
            ["placement.mode=colocate", "judge={type: vllm}"],
            "placement.mode colocate has rollout and judge engine awake on one GPU, but their "
            "gpu_memory_utilization adds up to 1.8: lower them to 0.95 in all",
        ),
        (
            ["placement.mode=colocate", "train.max_policy_lag=1"],
            "placement.mode colocate lets sampling and learning take turns, so nothing overlaps: "
            "set train.max_policy_lag to 0, or placement.mode to split",
        ),
        (
            ["placement.mode=colocate", "learner.offload_optimizer=true"],
            "placement.mode colocate moves the learner's states between GPU and host memory, which "
            "DeepSpeed does in bfloat16 for learner.zero_stage 2 without learner.offload_optimizer, "
            "but they are 2 and true: set them to 2 and false, or placement.mode to split",
        ),
        *(
            (
                ["placement.mode=colocate", f"learner.zero_stage={stage}"],
                "placement.mode colocate moves the learner's states between GPU and host memory, "
                "which DeepSpeed does in bfloat16 for learner.zero_stage 2 without "
                f"learner.offload_optimizer, but they are {stage} and false: set them to 2 and "
                "false, or placement.mode to split",
            )
            for stage in (1, 3)
        ),
        *(
            (
                [
                    "placement.mode=colocate",
                    f"learner.zero_stage={stage}",
                    "model.dtype=float32",
                ],
                "placement.mode colocate moves the learner's states between GPU and host memory, "
                "which DeepSpeed does in float32 for learner.zero_stage 1 or 2 without "
                f"learner.offload_optimizer, but they are {stage} and false: set them to 2 and "
                "false, or placement.mode to split",
            )
            for stage in (0, 3)
        ),
        (
            ["placement.mode=in_process", "rollout.num_actors=2"],
            "placement.mode in_process has one of everything, but rollout.num_actors is 2: set it to "
            "1, or placement.mode to split or colocate",
        ),
        (
            ["placement.mode=in_process", "judge={type: vllm}"],
            "placement.mode in_process runs without vLLM, but judge.type is vllm: set judge to "
            "{type: rule} or to an endpoint, or placement.mode to split or colocate",
        ),
        (
            ["placement.mode=in_process", "learner.num_ranks=2", "learner.train_batch_size=2"],
            "placement.mode in_process has one learner rank, but learner.num_ranks is 2: set it to 1, "
            "or placement.mode to split or colocate",
        ),
    ],
)
def test_settings_that_do_not_fit_together_say_what_to_change(
    write: Write, overrides: list[str], message: str
) -> None:
    path = write()
    assert refused(path, *overrides) == f"{path}:\n  {message}"


@pytest.mark.parametrize(
    "overrides",
    [
        ["learner.num_ranks=2"],
        ["rollout.samples_per_prompt=2", "algorithm.baseline=leave_one_out"],
        ["rollout.both_orders=true", "reward.position_weight=0.5"],
        ["rollout.samples_per_prompt=2", "rollout.dynamic_sampling.max_rounds=1"],
        ["algorithm.normalize=false"],
        ["learner.micro_batch_tokens=80"],
        ["placement.mode=colocate"],
        [
            *[
                "placement.mode=colocate",
                "judge={type: vllm, engine: {gpu_memory_utilization: 0.2}}",
            ],
            "rollout.engine.gpu_memory_utilization=0.75",
        ],
        ["placement.mode=in_process", "train.max_policy_lag=2"],
        ["model.min_image_tokens=500", "model.max_image_tokens=500"],
        ["placement.device=cpu", "rollout.engine.max_num_batched_tokens=64"],
        [
            "placement.device=cpu",
            "placement.mode=colocate",
            *["model.max_prompt_tokens=8"],
            "rollout.engine.max_num_batched_tokens=8",
        ],
    ],
)
def test_the_bounds_themselves_are_allowed(write: Write, overrides: list[str]) -> None:
    load_recipe(write(), overrides)


# Regression: with the bounds crossed torch.clamp gives every token the ratio
# pre_clip_max and no gradient: nothing would train, silently.
def test_pre_clip_bounds_must_not_cross(write: Write) -> None:
    message = refused(write(), "algorithm.pre_clip_min=10", "algorithm.pre_clip_max=0.1")
    assert "pre_clip_min" in message


# Regression: one tag for both blocks can never be well formed.
def test_the_two_tags_must_differ(write: Write) -> None:
    assert "tag" in refused(write(), "prompt.think_tag=answer")


@pytest.mark.parametrize(
    "override",
    [
        "learner.lr=0",
        "learner.lr=fast",
        "learner.lr=[1, 2]",
        "learner.warmup_share=1.1",
        "learner.zero_stage=4",
        "algorithm.clip_epsilon=1",
        "algorithm.filter_sigma=0",
        "rollout.num_actors=0",
        "train.max_policy_lag=-1",
        "train.num_steps=null",
        "name=../escape",
        "name=''",
    ],
)
def test_values_out_of_range_are_refused_by_name(write: Write, override: str) -> None:
    assert f"  {override.partition('=')[0]}: " in refused(write(), override)


# The loss's switches --------------------------------------------------------------------------


def test_every_switch_of_the_loss_is_off_by_default(write: Write) -> None:
    recipe = load_recipe(write())
    algorithm = recipe.algorithm
    assert algorithm.clip_bounds == (0.8, 1.2)
    assert (algorithm.dual_clip, algorithm.ratio, algorithm.loss_mean) == (
        None,
        "token",
        "sequence",
    )
    assert (algorithm.kl_placement, algorithm.kl_estimator) == ("reward", "k1")
    assert not algorithm.kl_in_loss
    assert training_learner(recipe).rollout_correction == NoCorrection(type="none")


def test_clip_higher_moves_the_upper_bound_only(write: Write) -> None:
    recipe = load_recipe(write(), ["algorithm.clip_epsilon_high=0.28"])
    assert recipe.algorithm.clip_bounds == (0.8, 1.28)
    assert load_recipe(write(), ["algorithm.clip_epsilon=0.1"]).algorithm.clip_bounds == (0.9, 1.1)


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["train.max_policy_lag=1"], TokenIs(type="token_is", cap=2.0)),
        (["train.max_policy_lag=1", "algorithm.rollout_correction=auto"], TokenIs(type="token_is")),
        (
            ["train.max_policy_lag=1", "algorithm.rollout_correction=none"],
            NoCorrection(type="none"),
        ),
        (
            ["train.max_policy_lag=1", "algorithm.rollout_correction=null"],
            NoCorrection(type="none"),
        ),
        # The ratio is against the rollout's own log-probs: nothing is missing.
        (["train.max_policy_lag=1", "algorithm.old_logprobs=rollout"], NoCorrection(type="none")),
        (["algorithm.rollout_correction=token_is"], TokenIs(type="token_is", cap=2.0)),
        (
            ["algorithm.rollout_correction={type: token_is, cap: 3}"],
            TokenIs(type="token_is", cap=3.0),
        ),
        (
            ["algorithm.rollout_correction=sequence_mask"],
            SequenceMask(type="sequence_mask", low=0.5, high=2.0),
        ),
        (
            ["train.max_policy_lag=2", "algorithm.rollout_correction.type=sequence_mask"],
            SequenceMask(type="sequence_mask"),
        ),
    ],
)
def test_rollout_correction_is_on_for_a_lag_or_when_it_is_asked_for(
    write: Write, overrides: list[str], wanted: object
) -> None:
    recipe = load_recipe(write(), overrides)
    assert training_learner(recipe).rollout_correction == wanted
    again = Recipe.model_validate(recipe.model_dump(mode="json"))
    assert training_learner(again).rollout_correction == wanted


@pytest.mark.parametrize("correction", ["token_is", "sequence_mask"])
def test_rollout_correction_needs_the_learners_old_log_probs(write: Write, correction: str) -> None:
    message = refused(
        write(), f"algorithm.rollout_correction={correction}", "algorithm.old_logprobs=rollout"
    )
    assert "set algorithm.old_logprobs to learner" in message
    assert correction in message


def test_k1_in_the_loss_is_refused_with_what_to_take_instead(write: Write) -> None:
    message = refused(write(), "algorithm.kl_placement=loss", "algorithm.kl_beta=0.1")
    assert "expectation is 0" in message and "k2 or k3" in message
    for estimator in ("k2", "k3"):
        overrides = ["algorithm.kl_placement=loss", f"algorithm.kl_estimator={estimator}"]
        assert not load_recipe(write(), overrides).algorithm.kl_in_loss
        algorithm = load_recipe(write(), [*overrides, "algorithm.kl_beta=0.1"]).algorithm
        assert algorithm.kl_in_loss and algorithm.needs_reference


def test_dual_clip_and_cispo_exclude_each_other(write: Write) -> None:
    message = refused(write(), "algorithm.ratio=cispo", "algorithm.dual_clip=3")
    assert "set algorithm.dual_clip to null" in message


@pytest.mark.parametrize(
    "override",
    [
        "algorithm.dual_clip=1",
        "algorithm.clip_epsilon_high=0",
        "algorithm.ratio=word",
        "algorithm.loss_mean=batch",
        "algorithm.kl_estimator=k4",
        "algorithm.rollout_correction=sometimes",
        "algorithm.rollout_correction={type: token_is, cap: 0.5}",
        "algorithm.rollout_correction={type: sequence_mask, low: 1.5}",
        "algorithm.rollout_correction={type: sequence_mask, high: 0.9}",
        "algorithm.rollout_correction={type: token_is, capp: 3}",
    ],
)
def test_switches_out_of_range_are_refused_by_name(write: Write, override: str) -> None:
    assert f"  {override.partition('=')[0]}" in refused(write(), override)


# Overrides ------------------------------------------------------------------------------------


def test_overrides_are_yaml_values(write: Write) -> None:
    recipe = load_recipe(
        write(),
        [
            "learner.lr=6e-5",
            "tracking.tensorboard=true",
            "algorithm.filter_sigma=null",
            "train.from_rollouts=runs/a=b",
            "data.heldout={type: file, path: pairs.parquet}",
        ],
    )
    assert recipe.learner.lr == 6e-5
    assert recipe.tracking.tensorboard is True
    assert recipe.algorithm.filter_sigma is None
    assert recipe.train.from_rollouts == Path("runs/a=b")
    assert recipe.data.heldout == FileSource(type="file", path=Path("pairs.parquet"))


def test_the_last_override_wins(write: Write) -> None:
    assert load_recipe(write(), ["learner.lr=1", "learner.lr=2"]).learner.lr == 2


def test_an_override_leaves_its_neighbours_alone(write: Write) -> None:
    recipe = load_recipe(write(), ["data.train.num_pairs=9"])
    assert recipe.data.train.model_dump() == {
        "type": "shapes",
        "split": "train",
        "num_pairs": 9,
        "seed": 0,
    }


def test_a_list_replaces_rather_than_merges() -> None:
    assert merge({"a": [1, 2], "b": 3}, {"a": [4]}) == {"a": [4], "b": 3}


@pytest.mark.parametrize("override", ["learner.lr", "=3", ""])
def test_an_override_without_key_or_value_is_refused(write: Write, override: str) -> None:
    assert refused(write(), override) == f"{override!r} is not of the form section.key=value"


def test_an_override_that_is_no_yaml_is_refused(write: Write) -> None:
    first, *_ = refused(write(), "model.path=[1").splitlines()
    assert first.startswith("the value of 'model.path=[1' is not valid YAML: ")


def test_an_override_below_a_plain_value_is_refused(write: Write) -> None:
    assert "name" in refused(write(), "name.first=x")


# Inheritance ----------------------------------------------------------------------------------


def test_a_recipe_inherits_from_its_base_and_overrides_it(write: Write) -> None:
    write("base.yaml", learner={"train_batch_size": 2, "micro_batch_tokens": 80, "lr": 1e-4})
    recipe = load_recipe(write("child.yaml", base="base.yaml", name="child", learner={"lr": 2e-4}))
    assert recipe.name == "child"
    assert recipe.learner.lr == 2e-4
    assert recipe.learner.micro_batch_tokens == 80


def test_inheritance_reaches_over_several_recipes_and_folders(write: Write, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write("a.yaml", seed=1)
    write("sub/b.yaml", base="../a.yaml", name="b")
    recipe = load_recipe(write("c.yaml", base="sub/b.yaml", train={"num_steps": 7}))
    assert (recipe.seed, recipe.name, recipe.train.num_steps) == (1, "b", 7)


def test_recipes_that_inherit_from_each_other_are_refused(write: Write) -> None:
    path = write("a.yaml", base="b.yaml")
    write("b.yaml", base="a.yaml")
    assert "comes back to itself" in refused(path)
    assert "comes back to itself" in refused(write("self.yaml", base="self.yaml"))


def test_a_missing_base_is_named(write: Write) -> None:
    assert "gone.yaml: no such recipe file" in refused(write(base="gone.yaml"))


# Regression: TypeError from Path / int instead of a RecipeError.
@pytest.mark.parametrize("base", [3, ["a.yaml"]])
def test_a_base_that_is_no_path_is_refused(write: Write, base: object) -> None:
    assert "base" in refused(write(base=base))


def test_a_section_that_changes_its_type_replaces_the_inherited_one(write: Write) -> None:
    write("base.yaml", judge={"type": "vllm", "num_lines": 5, "temperature": 0.5})
    child = write(
        "child.yaml", base="base.yaml", judge={"type": "openai", "url": "http://h", "model": "m"}
    )
    judge = load_recipe(child).judge
    assert isinstance(judge, OpenAIJudge)
    assert judge.num_lines == 3  # its own default, not the vllm judge's 5


def test_a_section_that_keeps_its_type_is_merged(write: Write) -> None:
    write("base.yaml", judge={"type": "vllm", "num_lines": 5})
    for judge in ({"type": "vllm", "max_tries": 1}, {"max_tries": 1}):
        loaded = load_recipe(write("child.yaml", base="base.yaml", judge=judge)).judge
        assert isinstance(loaded, VllmJudge)
        assert (loaded.num_lines, loaded.max_tries) == (5, 1)


def test_an_override_can_change_a_type_and_then_fill_it_in(write: Write) -> None:
    recipe = load_recipe(write(), ["judge.type=openai", "judge.url=http://h", "judge.model=m"])
    assert isinstance(recipe.judge, OpenAIJudge)
    assert recipe.judge.url == "http://h"


# Regression: an empty mapping adds nothing, so what a base recipe sets cannot be taken
# back, though extra_body's description promises "{} for servers that refuse them".
def test_an_empty_extra_body_empties_the_inherited_one(write: Write) -> None:
    judge = {"type": "openai", "url": "http://h", "model": "m", "extra_body": {"top_k": 0}}
    write("base.yaml", judge=judge)
    loaded = load_recipe(write("child.yaml", base="base.yaml", judge={"extra_body": {}})).judge
    assert isinstance(loaded, OpenAIJudge)
    assert loaded.extra_body == {}


# Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a recipe is a mapping of sections"),
        (b"- 1\n", "a recipe is a mapping of sections"),
        (b"name: [", "not a YAML file"),
        (b"\xff\xfe\x00", "not a YAML file"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    assert refused(path).startswith(f"{path}: {message}")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "gone.yaml") == f"{tmp_path / 'gone.yaml'}: no such recipe file"
    assert "not a YAML file" in refused(tmp_path)


@pytest.mark.parametrize("path", RECIPES, ids=[path.name for path in RECIPES])
def test_a_dumped_recipe_loads_back_to_an_equal_one(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    (tmp_path / "dumped.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "dumped.yaml") == recipe


def test_every_kind_of_section_survives_the_round_trip(write: Write, tmp_path: Path) -> None:
    recipe = load_recipe(
        write(),
        [
            OPENAI,
            "data.heldout={type: file, path: a/b.jsonl, images: a/img}",
            "algorithm.pre_clip_min=null",
            "learner.lr=1.25e-7",
            "learner.lora={targets: [q_proj, v_proj]}",
            "train.from_rollouts=runs/x/rollouts",
        ],
    )
    (tmp_path / "dumped.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "dumped.yaml") == recipe
    assert load_recipe(tmp_path / "dumped.yaml", ["seed=1"]) != recipe


def test_a_recipe_is_frozen(write: Write) -> None:
    recipe = load_recipe(write())
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        recipe.learner.lr = 1.0


def test_recipes_do_not_share_their_defaults(write: Write) -> None:
    first = load_recipe(write(), [OPENAI]).judge
    assert isinstance(first, OpenAIJudge)
    first.extra_body["changed"] = 1.0
    second = load_recipe(write(), [OPENAI]).judge
    assert isinstance(second, OpenAIJudge)
    assert second.extra_body == {"top_k": 0, "repetition_penalty": 1.0}


def test_secrets_have_no_place_in_a_recipe() -> None:
    assert "api_key" not in OpenAIJudge.model_fields
    assert "api_key_env" in OpenAIJudge.model_fields
    assert isinstance(Recipe.model_json_schema()["properties"], dict)
