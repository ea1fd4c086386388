"""What holds for all of cluster/: Ray's launcher file, nodes and images only, the user's page."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from r1reward.recipe.recipe import Recipe
from tests.unit.cluster.test_images import PROJECT, STAGES

ROOT = Path(__file__).parents[3]
FILES = sorted(path for path in (ROOT / "cluster").rglob("*") if path.is_file())
LAUNCHER = ROOT / "cluster" / "ray" / "cluster.yaml"
# Sections that a cluster's files may set: where things are and who runs where.
PLACES = {"placement", "run_dir", "data"}


def launcher() -> dict[str, Any]:
    config = yaml.safe_load(LAUNCHER.read_text())
    assert isinstance(config, dict)
    return config


def settings_of(text: str) -> set[str]:
    """Recipe sections that are set in a text, as section.key=value, outside of comments."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = re.findall(r"(?<![\w./-])([a-z_]+)(?:\.[a-z_]+)*=", code)
    return set(found) & set(Recipe.model_fields)


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return {str(key) for key in value} | {k for v in value.values() for k in keys_of(v)}
    if isinstance(value, list):
        return {key for item in value for key in keys_of(item)}
    return set()


def test_the_launcher_file_is_one_by_rays_own_schema() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(launcher(), schema)
    with pytest.raises(jsonschema.ValidationError, match="'imagee' was unexpected"):
        jsonschema.validate({**launcher(), "docker": {"imagee": "x"}}, schema)


def test_rays_launcher_takes_it() -> None:
    prepared = prepare_config(launcher())
    validate_config(prepared)
    assert prepared["max_workers"] == len(launcher()["provider"]["worker_ips"])


def test_the_launcher_starts_the_image_with_a_token_and_shared_storage() -> None:
    docker = launcher()["docker"]
    assert docker["image"] == f"registry.example.com/r1reward:{PROJECT['version']}-gpu"
    (shared,) = STAGES["gpu"].all("WORKDIR")
    assert f"--volume={shared}:{shared}" in docker["run_options"]
    # Keys and the token are in a file on each machine, never in this one.
    assert "--env-file=/etc/r1reward.env" in docker["run_options"]
    assert not re.search(r"(?:KEY|TOKEN|PASSWORD)=\S", "\n".join(docker["run_options"]))
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert f"cd {shared} && ray start" in launcher()[commands][-1]
    # By these the head starts its workers.
    packages = STAGES["base-gpu"].all("RUN")[0]
    assert {"openssh-client", "rsync"} <= set(packages.split())


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_clusters_are_nodes_and_images_only(path: Path) -> None:
    text = path.read_text()
    assert settings_of(text) <= PLACES
    if path.suffix == ".yaml":
        knobs = {key for key in keys_of(Recipe.model_json_schema()) if "_" in key}
        assert {"num_steps", "num_ranks", "micro_batch_tokens"} <= knobs
        assert not keys_of(yaml.safe_load(text)) & knobs


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("entrypoint: r1reward train x.yaml learner.lr=1e-6", {"learner"}),
        ("r1reward train x seed=3 placement.wait_s=9", {"seed", "placement"}),
        ("# learner.lr=1e-6\nray start --num-cpus=0", set()),
    ],
)
def test_a_training_knob_is_seen(text: str, found: set[str]) -> None:
    assert settings_of(text) == found


def test_the_files_are_found() -> None:
    assert {path.name for path in FILES} == {
        *("rayjob.yaml", "raycluster.yaml", "storage.yaml", "train.sbatch", "cluster.yaml")
    }


# The page -------------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "cluster.md"


def documents() -> list[Path]:
    return [
        PAGE,
        *FILES,
        *sorted((ROOT / "recipes").glob("*.yaml")),
        ROOT / "docker" / "Dockerfile",
    ]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    named = set(
        re.findall(
            r"(?<![\w/])(?:\.\./)?((?:cluster|recipes|docker|docs)/[\w./-]*\.\w+)", path.read_text()
        )
    )
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_page_names_every_file_and_target() -> None:
    text = PAGE.read_text()
    for path in FILES:
        assert str(path.relative_to(ROOT)) in text
    for recipe in (ROOT / "recipes").glob("r1_reward_*.yaml"):
        assert str(recipe.relative_to(ROOT)) in text
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {shlex.split(line)[1] for line in re.findall(r"^    (make .*)$", text, re.MULTILINE)}
    assert {"setup", "image"} <= wanted <= {*targets, "submit"}


def test_versions_on_the_page_are_the_pinned_ones() -> None:
    assert set(re.findall(r"r1reward:(\d[\w.]*)-[gc]pu", PAGE.read_text())) == {PROJECT["version"]}
