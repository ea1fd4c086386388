"""The Kubernetes manifests: KubeRay's structure, and agreement with the image and the recipes."""

import copy
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1reward.recipe.files import load_recipe
from r1reward.sizing.bundles import Bundle, training_bundles
from tests.kuberay_schema import problems

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "cluster" / "kuberay"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def load(name: str) -> dict[str, Any]:
    manifest = yaml.safe_load((FOLDER / name).read_text())
    assert isinstance(manifest, dict)
    return manifest


JOB, CLUSTER, STORAGE = load("rayjob.yaml"), load("raycluster.yaml"), load("storage.yaml")
SPEC = CLUSTER["spec"]
GROUPS = {group["groupName"]: group for group in SPEC["workerGroupSpecs"]}
NODES = {"head": SPEC["headGroupSpec"], **GROUPS}
PODS = {name: node["template"]["spec"] for name, node in NODES.items()}
SUBMITTER = JOB["spec"]["submitterPodTemplate"]["spec"]


def pins() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = (line.split("==") for line in project["dependencies"] if "==" in line)
    return {"r1reward": project["version"], **{name.partition("[")[0]: v for name, v in pinned}}


def size(quantity: str | int) -> int:
    parts = re.fullmatch(r"(\d+)(\w*)", str(quantity))
    assert parts, quantity
    return int(parts[1]) * UNITS[parts[2]]


def only(items: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(items) == 1
    return items[0]


# Structure ------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", [JOB, CLUSTER, STORAGE], ids=lambda m: m["kind"])
def test_every_field_is_one_of_the_published_api(manifest: dict[str, Any]) -> None:
    wanted = "v1" if manifest is STORAGE else "ray.io/v1"
    assert manifest["apiVersion"] == wanted
    assert problems(manifest, manifest["kind"], manifest["kind"]) == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (
            ("spec", "rayversion"),
            "2.60.0",
            "RayCluster.spec.rayversion: RayClusterSpec has no such",
        ),
        (("spec", "rayVersion"), 2.6, "RayCluster.spec.rayVersion: str is wanted, not 2.6"),
        (("spec", "headGroupSpec"), None, "RayCluster.spec.headGroupSpec: a HeadGroup is wanted"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "num-cpus: str is wanted"),
        (("spec", "workerGroupSpecs", 0, "maxReplicas"), True, "maxReplicas: int is wanted"),
        (("spec", "workerGroupSpecs", 0, "groupname"), "x", "groupname: WorkerGroup has no such"),
        (("spec", "workerGroupSpecs"), {}, "workerGroupSpecs: a list is wanted"),
        (("spec", "authOptions", "mode"), "tokens", "'tokens' is none of ['disabled', 'token']"),
        (("metadata", "labels"), "x", "labels: a mapping is wanted"),
    ],
)
def test_a_wrong_field_is_seen(path: tuple[str | int, ...], value: object, problem: str) -> None:
    manifest = copy.deepcopy(CLUSTER)
    section: Any = manifest
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    assert (
        problem in only([{"is": p} for p in problems(manifest, "RayCluster", "RayCluster")])["is"]
    )


def test_a_missing_field_is_seen() -> None:
    manifest = copy.deepcopy(CLUSTER)
    del manifest["spec"]["workerGroupSpecs"][1]["groupName"]
    assert problems(manifest, "RayCluster", "RayCluster") == [
        "RayCluster.spec.workerGroupSpecs[1]: groupName is missing"
    ]


def test_the_jobs_cluster_is_the_cluster() -> None:
    assert JOB["spec"]["rayClusterSpec"] == SPEC


# Agreement with image, pins and recipes -------------------------------------------------------


def test_images_and_ray_are_the_pinned_ones() -> None:
    assert SPEC["rayVersion"] == pins()["ray"]
    images = {container["image"] for pod in PODS.values() for container in pod["containers"]}
    images.add(only(SUBMITTER["containers"])["image"])
    assert images == {f"registry.example.com/r1reward:{pins()['r1reward']}-gpu"}
    assert re.search(r"^FROM \S+ AS gpu$", DOCKERFILE, re.MULTILINE)


def test_pods_run_as_the_images_user_in_its_working_folder() -> None:
    users = set(re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE))
    folders = set(re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE))
    for name, pod in {**PODS, "submitter": SUBMITTER}.items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert users == {(str(security["runAsUser"]), str(security["runAsGroup"]))}, name
        container = only(pod["containers"])
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        if name != "submitter":
            assert {container["workingDir"]} == folders
            assert security["fsGroup"] == security["runAsGroup"]
    assert SPEC["autoscalerOptions"]["securityContext"]["allowPrivilegeEscalation"] is False


def entrypoint() -> list[str]:
    return shlex.split(JOB["spec"]["entrypoint"])


def test_the_job_runs_a_recipe_that_is_in_the_image() -> None:
    program, verb, recipe, *overrides = entrypoint()
    assert (program, verb) == ("r1reward", "run")
    inside = Path(recipe).relative_to("/opt/r1reward")
    assert "COPY recipes /recipes" in DOCKERFILE
    assert "COPY --from=source / /opt/r1reward/" in DOCKERFILE
    loaded = load_recipe(ROOT / inside, overrides)
    assert not loaded.run_dir.is_absolute(), "it lies in the working folder, which is shared"
    assert loaded.placement.device == "cuda"


def room(group: dict[str, Any]) -> list[Bundle]:
    """What the nodes of a worker group offer at most."""
    limits = only(group["template"]["spec"]["containers"])["resources"]["limits"]
    own = {name: float(amount) for name, amount in group.get("resources", {}).items()}
    node = {"CPU": float(limits["cpu"]), "GPU": float(limits["nvidia.com/gpu"]), **own}
    return [dict(node) for _ in range(group["maxReplicas"])]


def left_over(bundles: list[Bundle], nodes: list[Bundle]) -> list[Bundle]:
    """Bundles without a place when the largest is placed first, where it fits."""
    without = []
    for bundle in sorted(bundles, key=lambda b: (-len(b), -b.get("GPU", 0))):
        for node in nodes:
            if all(node.get(kind, 0) >= amount for kind, amount in bundle.items()):
                for kind, amount in bundle.items():
                    node[kind] -= amount
                break
        else:
            without.append(bundle)
    return without


@pytest.mark.parametrize("grown", [[], ["placement.num_judge_actors=2", "rollout.num_actors=8"]])
def test_the_recipe_has_room_at_full_size(grown: list[str]) -> None:
    _, _, recipe, *overrides = entrypoint()
    path = ROOT / Path(recipe).relative_to("/opt/r1reward")
    by_role = training_bundles(load_recipe(path, [*overrides, *grown]))
    bundles = [bundle for role in by_role.values() for bundle in role]
    assert left_over(bundles, [node for group in GROUPS.values() for node in room(group)]) == []


def test_a_judge_too_many_has_none() -> None:
    _, _, recipe, *overrides = entrypoint()
    path = ROOT / Path(recipe).relative_to("/opt/r1reward")
    by_role = training_bundles(load_recipe(path, [*overrides, "placement.num_judge_actors=5"]))
    nodes = [node for group in GROUPS.values() for node in room(group)]
    assert left_over(by_role["judge"], nodes) == [{"CPU": 1.0, "GPU": 1.0, "judge": 1.0}]


def test_judge_nodes_offer_what_the_job_asks_for() -> None:
    assert "placement.resources.judge.judge=1" in entrypoint()
    assert GROUPS["judge"]["resources"] == {"judge": "1"}
    assert "resources" not in GROUPS["gpu"]


# What each node needs --------------------------------------------------------------------------


def test_the_head_holds_no_actor_and_workers_come_and_go() -> None:
    head = SPEC["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in only(PODS["head"]["containers"])["resources"]["limits"]
    assert SPEC["enableInTreeAutoscaling"] is True
    for group in GROUPS.values():
        assert group["minReplicas"] <= group["replicas"] < group["maxReplicas"]


def test_clients_need_the_token() -> None:
    assert SPEC["authOptions"] == {"mode": "token", "secretName": "r1reward-ray-token"}


@pytest.mark.parametrize("name", PODS)
def test_secrets_are_references(name: str) -> None:
    variables = {v["name"]: v for v in only(PODS[name]["containers"])["env"]}
    assert {"OPENAI_API_KEY", "WANDB_API_KEY", "HF_TOKEN"} <= variables.keys()
    for variable in variables.values():
        if re.search("KEY|TOKEN|SECRET|PASSWORD", variable["name"]):
            assert variable["valueFrom"]["secretKeyRef"]["name"] == "r1reward"
            assert "value" not in variable


@pytest.mark.parametrize("name", PODS)
def test_pods_are_probed_where_ray_answers(name: str) -> None:
    container = only(PODS[name]["containers"])
    for probe in ("readinessProbe", "livenessProbe"):
        # Ray's node agent; these paths need no token.
        assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}


@pytest.mark.parametrize("name", PODS)
def test_storage_is_shared_and_memory_holds_the_object_store(name: str) -> None:
    pod, container = PODS[name], only(PODS[name]["containers"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claim = volumes[mounts[container["workingDir"]]]["persistentVolumeClaim"]["claimName"]
    assert claim == STORAGE["metadata"]["name"]
    assert STORAGE["spec"]["accessModes"] == ["ReadWriteMany"]

    memory = size(container["resources"]["limits"]["memory"])
    shm = volumes[mounts["/dev/shm"]]["emptyDir"]
    # Ray takes 30 % of memory where nothing else is said.
    store = int(NODES[name]["rayStartParams"].get("object-store-memory", 0.3 * memory))
    assert shm["medium"] == "Memory"
    assert store < size(shm["sizeLimit"]) < memory / 2
