"""Every third-party import is declared in pyproject.toml: installing the project is enough to run it."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Either of these extras brings the engines and torch with them; one of the two is always installed.
ENGINES = ("cpu", "gpu")
OURS = ("r1reward", "studies", "tools", "benchmarks", "tests")
DISTRIBUTIONS = packages_distributions()


def distribution(requirement: str) -> str:
    """The name of a requirement in the form that names are compared in (PEP 503)."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    requirements: list[str] = list(PROJECT["dependencies"])
    for extra in (*ENGINES, *extras):
        requirements += PROJECT["optional-dependencies"][extra]
    return {distribution(requirement) for requirement in requirements}


def imported_modules(source: str) -> Iterator[str]:
    """The top-level names of all absolute imports, wherever in the file they stand."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0]


def undeclared(
    source: str,
    known: set[str],
    distributions: Mapping[str, Sequence[str]] = DISTRIBUTIONS,
) -> set[str]:
    """The imported modules that no known distribution provides."""
    modules = set(imported_modules(source)) - sys.stdlib_module_names - set(OURS)
    return {
        module
        for module in modules
        if not {distribution(name) for name in distributions.get(module, ())} & known
    }


@pytest.mark.parametrize("folder", OURS)
def test_every_import_is_declared(folder: str) -> None:
    """The package may use its dependencies alone; what runs from the checkout also the extra dev."""
    known = declared() if folder == "r1reward" else declared("dev")
    found = {
        str(path.relative_to(ROOT)): modules
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (modules := undeclared(path.read_text(), known))
    }
    assert found == {}


def test_torch_comes_with_either_engine() -> None:
    for extra in ENGINES:
        requirements = PROJECT["optional-dependencies"][extra]
        assert any(distribution(requirement) == "torch" for requirement in requirements)


def test_an_undeclared_import_is_seen() -> None:
    known = {"pyyaml"}
    distributions = {"yaml": ["PyYAML"], "requests": ["requests"]}
    source = "import yaml, sys\ndef f():\n    from requests.exceptions import Timeout\n"
    assert undeclared(source, known, distributions) == {"requests"}
    assert undeclared("import not_installed", known, distributions) == {"not_installed"}


def test_modules_are_found_by_the_name_that_is_imported() -> None:
    assert [distribution(name) for name in DISTRIBUTIONS["yaml"]] == ["pyyaml"]
    assert distribution("ray[default]==2.60.0") == "ray"
    assert distribution("types_PyYAML>=1") == "types-pyyaml"


def test_every_test_has_a_time_limit(pytestconfig: pytest.Config) -> None:
    """Without pytest-timeout this setting would be unknown, and a loop that hangs would hang for ever."""
    assert 0 < float(pytestconfig.getini("timeout")) <= 300
