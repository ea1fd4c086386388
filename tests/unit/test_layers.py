"""Imports go down only, by package (docs/design.md, layers)."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "r1reward"
FILES = sorted(ROOT.rglob("*.py"))

# A package imports those with a smaller number and itself: so there is no cycle between packages.
FLOORS = {
    **dict.fromkeys(("types", "errors"), 0),
    **dict.fromkeys(("metrics", "recipe"), 1),
    "interfaces": 2,
    **dict.fromkeys(("algorithm", "data"), 3),
    **dict.fromkeys(("shapes", "loop", "rollouts", "sft_loop"), 4),
    "runs": 5,
    **dict.fromkeys(("models", "evaluation"), 6),
    **dict.fromkeys(("engines", "sizing"), 7),
    "actors": 8,
    **dict.fromkeys(("report", "doctor", "jobs"), 9),
    "pipeline": 10,
    "cli": 11,
    "__main__": 12,
}
# What a package may import from elsewhere; a package that is not here may import everything.
PYDANTIC = {"pydantic", "yaml"}
ARRAYS = PYDANTIC | {"torch", "numpy", "PIL", "pyarrow"}
LIBRARIES = {
    **dict.fromkeys(("types", "errors", "metrics", "interfaces", "recipe"), PYDANTIC),
    **dict.fromkeys(("algorithm", "shapes", "loop", "rollouts", "sft_loop"), ARRAYS),
    # datasketch and imagehash find leaked texts and images, huggingface_hub fetches published sources,
    # ijson reads large JSON lists, scipy has the statistics, graphs and filters.
    "data": ARRAYS | {"datasketch", "imagehash", "huggingface_hub", "ijson", "scipy"},
    "evaluation": ARRAYS | {"rich", "scipy"},
    "sizing": ARRAYS | {"rich"},
    "runs": ARRAYS | {"rich", "fsspec", "filelock", "wandb"},
}
HEAVY = {"transformers", "vllm", "deepspeed", "openai"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imported_names(node: ast.AST, *, types: bool = True, deferred: bool = True) -> Iterator[str]:
    """Every imported name; ``types``: under TYPE_CHECKING, ``deferred``: inside of functions."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not deferred:
        return
    skips_types = is_type_checking(node) and not types
    children = node.orelse if skips_types else ast.iter_child_nodes(node)  # type: ignore[attr-defined]
    for child in children:
        yield from imported_names(child, types=types, deferred=deferred)


def violations(module: str, source: str) -> list[str]:
    """What a module imports and should not, as sentences."""
    own = module.split(".")[1]
    if own not in FLOORS:
        return [f"{module} belongs to no floor"]
    tree = ast.parse(source)
    found = []
    for name in imported_names(tree):
        package, *rest = name.split(".")
        if package == "r1reward":
            below = rest[0]
            if below != own and FLOORS.get(below, -1) >= FLOORS[own]:
                found.append(f"{module} imports {name}, which is not below it")
    for name in imported_names(tree, types=False):
        package = name.partition(".")[0]
        if package == "r1reward" or package in sys.stdlib_module_names:
            continue
        if package not in LIBRARIES.get(own, {package}):
            found.append(f"{module} imports {package}")
        elif own in ("models", "engines") and package == "ray":
            found.append(f"{module} imports ray")
    at_start = {n.partition(".")[0] for n in imported_names(tree, types=False, deferred=False)}
    if own in ("models", "engines") and len(at_start & HEAVY) > 1:
        found.append(f"{module} has more than one heavy library: {sorted(at_start & HEAVY)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=[module_name(path) for path in FILES])
def test_imports_go_down_only(path: Path) -> None:
    if path.name == "__init__.py" and path.parent == ROOT:
        assert list(imported_names(ast.parse(path.read_text()))) == []
    else:
        assert violations(module_name(path), path.read_text()) == []


def test_every_floor_is_there() -> None:
    there = {path.stem if path.is_file() else path.name for path in ROOT.iterdir()}
    assert set(FLOORS) <= there


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("r1reward.types", "import torch"),
        ("r1reward.types", "import numpy as np"),
        ("r1reward.recipe.recipe", "def f():\n    from torch import nn"),
        ("r1reward.metrics", "from r1reward.data.order import derive_seed"),
        ("r1reward.metrics", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
        ("r1reward.interfaces", "if TYPE_CHECKING:\n    from r1reward.runs.storage import Storage"),
        ("r1reward.algorithm.loss", "import ray"),
        ("r1reward.algorithm.loss", "from r1reward.data.order import derive_seed"),
        ("r1reward.algorithm.loss", "class A:\n    def f(self):\n        import vllm.config"),
        ("r1reward.data.prompt", "from transformers import AutoTokenizer"),
        ("r1reward.data.order", "from r1reward.shapes.pairs import make_pairs"),
        ("r1reward.data.order", "from r1reward import loop"),
        ("r1reward.evaluation.audit", "import r1reward.engines.judge"),
        ("r1reward.loop", "from r1reward.engines.judge import build_judge"),
        ("r1reward.loop", "try:\n    import deepspeed\nexcept ImportError:\n    pass"),
        ("r1reward.rollouts", "async def f():\n    import ray"),
        ("r1reward.engines.vllm_engine", "import ray.util"),
        ("r1reward.engines.vllm_engine", "def f():\n    from r1reward.actors import weights"),
        ("r1reward.engines.vllm_engine", "import vllm\nimport deepspeed"),
        ("r1reward.actors.judge", "from r1reward.pipeline.train import train"),
        ("r1reward.report.build", "from r1reward.pipeline.train import train"),
        ("r1reward.misc", "x = 1"),
    ],
)
def test_a_forbidden_import_is_seen(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("r1reward.types", "import hashlib\nif TYPE_CHECKING:\n    import numpy as np"),
        ("r1reward.types", "if typing.TYPE_CHECKING:\n    import torch"),
        ("r1reward.recipe.recipe", "import yaml\nfrom pydantic import BaseModel"),
        ("r1reward.algorithm.loss", "import torch\nfrom r1reward.recipe.recipe import Recipe"),
        ("r1reward.evaluation.items", "def f():\n    from r1reward.shapes.pairs import make_pairs"),
        ("r1reward.loop", "from r1reward.algorithm.kl import k1\nimport numpy"),
        ("r1reward.engines.x", "import vllm\nimport torch\ndef f():\n    import transformers"),
        ("r1reward.actors.judge", "import ray\nfrom r1reward.engines import judge"),
        ("r1reward.cli.train", "import rich\nfrom r1reward.pipeline import train"),
    ],
)
def test_an_import_that_goes_down_is_not(module: str, source: str) -> None:
    assert violations(module, source) == []


def imported_at_run_time(*modules: str) -> set[str]:
    script = (
        f"import json, sys, {', '.join(modules)}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def test_the_words_load_without_torch_and_numpy() -> None:
    words = {name for name, floor in FLOORS.items() if floor <= FLOORS["interfaces"]}
    loaded = imported_at_run_time(
        *(
            name
            for path in FILES
            if (name := module_name(path)).count(".") and name.split(".")[1] in words
        )
    )
    assert {"r1reward", "pydantic"} <= loaded
    assert loaded & {"torch", "numpy", "PIL", "pyarrow", "ray", *HEAVY} == set()


def test_the_loop_loads_without_ray_and_engines() -> None:
    loaded = imported_at_run_time("r1reward.loop", "r1reward.rollouts", "r1reward.runs.checkpoint")
    assert {"r1reward", "numpy"} <= loaded
    assert loaded & {"ray", *HEAVY} == set()
