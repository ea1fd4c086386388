"""Imports go down only (design: ARCHITECTURE.md, layers)."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "r1reward"
FILES = sorted(ROOT.rglob("*.py"))

WORDS, PURE, ENGINES, ACTORS, COMPOSITION = range(5)

# The longest matching name decides. The loop, its collector and the checkpoints are composition by
# purpose but pure by their imports, which is what lets them run under pytest without a cluster.
LAYERS = {
    "r1reward.types": WORDS,
    "r1reward.config": WORDS,
    "r1reward.sections": WORDS,
    "r1reward.engine_sections": WORDS,
    "r1reward.learner_sections": WORDS,
    "r1reward.pipeline_sections": WORDS,
    "r1reward.recipe_changes": WORDS,
    "r1reward.run_place": WORDS,
    "r1reward.recipe_file": WORDS,
    "r1reward.interfaces": WORDS,
    "r1reward.metrics": WORDS,
    "r1reward.alerts": WORDS,
    "r1reward.__version__": WORDS,
    "r1reward.data": PURE,
    "r1reward.algorithm": PURE,
    "r1reward.evaluation": PURE,
    "r1reward.loop": PURE,
    "r1reward.turns": PURE,
    "r1reward.fitting": PURE,
    "r1reward.collect": PURE,
    "r1reward.ask": PURE,
    "r1reward.annotate.attempts": PURE,
    "r1reward.annotate.limits": PURE,
    "r1reward.annotate": COMPOSITION,
    "r1reward.model_settings": WORDS,
    "r1reward.eval_folder": COMPOSITION,
    "r1reward.checkpoint": PURE,
    "r1reward.remote_folder": PURE,
    "r1reward.copied_files": PURE,
    "r1reward.run_copy": COMPOSITION,
    "r1reward.copying": COMPOSITION,
    "r1reward.stop_signal": WORDS,
    "r1reward.shapes.MODEL_DIR": PURE,
    "r1reward.shapes.scene": PURE,
    "r1reward.shapes.plan": PURE,
    "r1reward.shapes.pairs": PURE,
    "r1reward.shapes.hard": PURE,
    "r1reward.shapes.hard_scenes": PURE,
    "r1reward.shapes.hard_claims": PURE,
    "r1reward.shapes.hard_cases": PURE,
    "r1reward.shapes.trace": PURE,
    "r1reward.shapes.corpus": PURE,
    "r1reward.sizing": PURE,
    "r1reward.doctor": COMPOSITION,
    "r1reward.engines": ENGINES,
    "r1reward.actors": ACTORS,
    "r1reward.shapes": COMPOSITION,
    "r1reward.stages": COMPOSITION,
    "r1reward.stability": COMPOSITION,
    "r1reward.report": COMPOSITION,
    "r1reward.serving": COMPOSITION,
    "r1reward.launch": COMPOSITION,
    "r1reward.run_folder": COMPOSITION,
    "r1reward.tracking": COMPOSITION,
    "r1reward.cli": COMPOSITION,
    "r1reward.__main__": COMPOSITION,
}
ALLOWED = {
    WORDS: {"pydantic", "yaml"},
    # datasketch and imagehash sketch texts and images (r1reward.data.decontaminate), on numpy alone;
    # huggingface_hub brings a published source to this machine (r1reward.data.importers.hub), fsspec
    # speaks to object storage (r1reward.remote_folder).
    PURE: {
        *{"pydantic", "yaml", "torch", "numpy", "PIL", "pyarrow"},
        *{"datasketch", "imagehash", "huggingface_hub", "fsspec", "filelock"},
    },
}
HEAVY = {"transformers", "vllm", "deepspeed", "httpx"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(name: str) -> int | None:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (layer := LAYERS.get(".".join(parts[:length]))) is not None:
            return layer
    return None


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imported_names(node: ast.AST, *, deferred: bool) -> Iterator[str]:
    """Every imported name, outside of TYPE_CHECKING; inside of functions only if ``deferred``."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not deferred:
        return
    children = node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)  # type: ignore[attr-defined]
    for child in children:
        yield from imported_names(child, deferred=deferred)


def violations(module: str, source: str) -> list[str]:
    """What a module imports and should not, as sentences."""
    layer = layer_of(module)
    if layer is None:
        return [f"{module} belongs to no layer"]
    tree = ast.parse(source)
    found = []
    for name in imported_names(tree, deferred=True):
        package = name.partition(".")[0]
        if package == "r1reward":
            below = layer_of(name)
            if below is None or below > layer:
                found.append(f"{module} imports {name} of a higher layer")
        elif package in sys.stdlib_module_names:
            continue
        elif layer in ALLOWED and package not in ALLOWED[layer]:
            found.append(f"{module} imports {package}")
        elif layer == ENGINES and package == "ray":
            found.append(f"{module} imports ray")
    at_start = {name.partition(".")[0] for name in imported_names(tree, deferred=False)}
    if layer == ENGINES and len(at_start & HEAVY) > 1:
        found.append(f"{module} has more than one heavy library: {sorted(at_start & HEAVY)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=[module_name(path) for path in FILES])
def test_imports_go_down_only(path: Path) -> None:
    if path.name == "__init__.py" and path.parent == ROOT:
        assert list(imported_names(ast.parse(path.read_text()), deferred=True)) == []
    else:
        assert violations(module_name(path), path.read_text()) == []


def test_the_files_are_found() -> None:
    assert {"r1reward.loop", "r1reward.types", "r1reward.engines.vllm_engine"} <= {
        module_name(path) for path in FILES
    }


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("r1reward.types", "import torch"),
        ("r1reward.types", "import numpy as np"),
        ("r1reward.config", "def f():\n    from torch import nn"),
        ("r1reward.metrics", "from r1reward.data.order import derive_seed"),
        ("r1reward.metrics", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
        ("r1reward.algorithm.loss", "import ray"),
        ("r1reward.algorithm.loss", "class A:\n    def f(self):\n        import vllm.config"),
        ("r1reward.data.prompt", "from transformers import AutoTokenizer"),
        ("r1reward.data.sources", "from r1reward.shapes.network import build_model"),
        ("r1reward.data.sources", "from r1reward import launch"),
        ("r1reward.evaluation.voting", "import r1reward.engines.processor"),
        ("r1reward.loop", "from r1reward.engines.judge_engine import build_judge"),
        ("r1reward.loop", "try:\n    import deepspeed\nexcept ImportError:\n    pass"),
        ("r1reward.collect", "async def f():\n    import ray"),
        ("r1reward.engines.vllm_engine", "import ray.util"),
        ("r1reward.engines.vllm_engine", "def f():\n    from r1reward.actors import weights"),
        ("r1reward.engines.vllm_engine", "import vllm\nimport deepspeed"),
        ("r1reward.actors.judge", "from r1reward.stages.train import train"),
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
        ("r1reward.config", "import yaml\nfrom pydantic import BaseModel"),
        ("r1reward.algorithm.loss", "import torch\nfrom r1reward.config import Recipe"),
        ("r1reward.data.sources", "def f():\n    from r1reward.shapes.pairs import make_pairs"),
        ("r1reward.loop", "from r1reward.algorithm.kl import k1\nimport numpy"),
        ("r1reward.engines.x", "import vllm\nimport torch\ndef f():\n    import transformers"),
        ("r1reward.actors.judge", "import ray\nfrom r1reward.engines import judge_engine"),
        ("r1reward.launch", "import ray\nfrom r1reward.stages import train"),
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
    loaded = imported_at_run_time(
        *(name for name, layer in LAYERS.items() if layer == WORDS and "__" not in name)
    )
    assert {"r1reward", "pydantic"} <= loaded
    assert loaded & {"torch", "numpy", "PIL", "pyarrow", "ray", *HEAVY} == set()


def test_the_loop_loads_without_ray_and_engines() -> None:
    loaded = imported_at_run_time("r1reward.loop", "r1reward.collect", "r1reward.checkpoint")
    assert {"r1reward", "numpy"} <= loaded
    assert loaded & {"ray", *HEAVY} == set()
