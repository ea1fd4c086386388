"""The Dockerfile says what it should: targets, pins, user, a small context, the steps of set-up."""

import fnmatch
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker" / "Dockerfile").read_text()
IGNORED = [
    line
    for line in (ROOT / ".dockerignore").read_text().splitlines()
    if line and not line.startswith("#")
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True)
class Step:
    word: str
    rest: str


@dataclass(frozen=True)
class Stage:
    name: str
    base: str
    steps: list[Step]

    def all(self, word: str) -> list[str]:
        return [step.rest for step in self.steps if step.word == word]


def read_stages() -> dict[str, Stage]:
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
    stages: dict[str, Stage] = {}
    for line in filter(None, joined.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = Stage(name, base, [])
        else:
            list(stages.values())[-1].steps.append(Step(word, rest))
    return stages


STAGES = read_stages()
TARGETS = ("gpu", "cpu")


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file through; the last line that matches decides."""
    kept = True
    for pattern in IGNORED:
        wanted = pattern.removeprefix("!").removeprefix("**/")
        parts = Path(path).parts
        whole = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        names = [*whole, *parts] if "**/" in pattern else whole
        if any(fnmatch.fnmatchcase(name, wanted) for name in names):
            kept = pattern.startswith("!")
    return kept


def test_the_stages_are_bases_builds_and_targets() -> None:
    bases = {"python", "base-gpu", "base-cpu"}
    assert bases | {"build-gpu", "build-cpu", "pins", "source", *TARGETS} == set(STAGES)


def test_bases_are_pinned_and_have_one_python_the_one_of_these_tests() -> None:
    outside = {s.base for s in STAGES.values()} - STAGES.keys() - {"scratch"}
    assert len(outside) == 2
    for base in outside:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+-[\w.-]+", base), base
    assert STAGES["base-cpu"].base == "python"
    assert STAGES["base-gpu"].all("COPY") == ["--from=python /usr/local/ /usr/local/"]
    version = ".".join(map(str, sys.version_info[:2]))
    assert STAGES["python"].base.startswith(f"python:{version}.")
    for target in TARGETS:
        (run,) = STAGES[f"build-{target}"].all("RUN")
        assert f"PYTHON=python{version}" in shlex.split(run)


@pytest.mark.parametrize("target", TARGETS)
def test_the_stack_is_installed_as_by_make_setup(target: str) -> None:
    (run,) = STAGES[f"build-{target}"].all("RUN")
    assert run.endswith(" /opt/r1reward/docker/setup.sh")
    assert "R1REWARD_DEV=0" in shlex.split(run)
    assert f"R1REWARD_EXTRA={target}" in STAGES[f"base-{target}"].all("ENV")[0].split()
    assert target in PROJECT["optional-dependencies"]
    makefile = (ROOT / "Makefile").read_text()
    assert "\tdocker/setup.sh\n" in makefile


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_ends_as_an_ordinary_user_with_a_smoke_check(target: str) -> None:
    stage = STAGES[target]
    assert stage.base == f"base-{target}"
    order = [(step.word, step.rest) for step in stage.steps]
    (user,) = stage.all("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert f"--uid {user.partition(':')[0]} " in stage.all("RUN")[0]
    smoke = ("RUN", "/opt/r1reward/docker/smoke.sh")
    assert order.index(("USER", user)) < order.index(smoke) == len(order) - 2
    assert "PATH=/opt/r1reward/.venv/bin:$PATH" in stage.all("ENV")[0]


def test_both_targets_are_made_alike() -> None:
    gpu, cpu = (STAGES[target].steps for target in TARGETS)
    assert [Step(s.word, s.rest.replace("-gpu", "-cpu")) for s in gpu] == cpu


def test_what_is_copied_is_there_and_in_the_context() -> None:
    sources = [
        source
        for stage in STAGES.values()
        for copied in stage.all("COPY")
        if not copied.startswith("--from")
        for source in copied.split()[:-1]
    ]
    assert {"pyproject.toml", "recipes", "r1reward", "docker/setup.sh"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert in_context(source), source


def test_the_installation_is_repeated_when_what_it_reads_changes_and_only_then() -> None:
    copied = {s for rest in STAGES["pins"].all("COPY") for s in rest.split()[:-1]}
    script = (ROOT / "docker" / "setup.sh").read_text()
    (read,) = re.findall(r"\$\(cat (.*?) \| cksum\)", script)
    assert set(read.split()) <= copied
    packages = {"r1reward/__init__.py", "r1reward/engines/__init__.py"}
    assert copied == {*read.split(), *packages, PROJECT["readme"], *PROJECT["license-files"]}


def test_nothing_comes_from_an_address() -> None:
    assert not any(stage.all("ADD") for stage in STAGES.values())
    assert "://" not in TEXT


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "runs/local/metrics.jsonl",
        "data/pairs.jsonl",
        ".env",
        "tests/unit/cluster/test_images.py",
        "r1reward/__pycache__/cli.cpython-311.pyc",
        "r1reward/data/__pycache__/x.pyc",
        "r1reward.egg-info/PKG-INFO",
    ],
)
def test_the_context_is_small_and_without_secrets(path: str) -> None:
    assert not in_context(path)


@pytest.mark.parametrize("path", ["r1reward/cli/main.py", "r1reward/shapes/model/config.json"])
def test_the_package_is_in_the_context(path: str) -> None:
    assert in_context(path)


@pytest.mark.parametrize("target", TARGETS)
def test_make_image_builds_a_target_under_the_name_that_manifests_use(target: str) -> None:
    made = subprocess.run(
        ["make", "--dry-run", "image", f"TARGET={target}", "IMAGE=registry.example.com/r1reward"],
        # Under `make test` it would be a make within a make, which says where it is.
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tag = f"registry.example.com/r1reward:{PROJECT['version']}-{target}"
    assert made.stdout.split("docker build ")[1].split() == [
        *("--file", "docker/Dockerfile", "--target", target, "--tag", tag, ".")
    ]


def test_make_help_lists_it() -> None:
    made = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(r"^image +container image", made.stdout, re.MULTILINE)
