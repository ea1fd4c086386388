"""Text files are UTF-8 whatever the locale says: every reading and writing of one names its encoding."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for folder in ("r1reward", "studies", "tools", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def locale_calls(source: str) -> Iterator[int]:
    """The lines that open text in the locale's encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        owner = ast.unparse(node.func).rpartition(".")[0]
        modes = [
            value.value
            for value in (*node.args[:2], *(k.value for k in node.keywords if k.arg == "mode"))
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
        ]
        is_text = not any("b" in mode for mode in modes)
        is_whole = name in ("read_text", "write_text") and len(node.args) < 1 + (name[0] == "w")
        is_file = (
            name == "open"
            and owner not in ("os", "Image", "mirror")
            and is_text
            and is_path(node, modes)
        )
        if is_whole or is_file:
            yield node.lineno


def is_path(call: ast.Call, modes: list[str]) -> bool:
    """Whether what is opened is a file: ``open(path)``, or ``path.open()`` with nothing but a mode."""
    return isinstance(call.func, ast.Name) or len(call.args) == len(modes)


def test_the_check_sees_what_it_looks_for() -> None:
    seen = {
        "p.read_text()": 1,
        "p.read_text('utf-8')": 0,
        "p.read_text(encoding='utf-8')": 0,
        "p.write_text(x)": 1,
        "open(p)": 1,
        "p.open('a')": 1,
        "p.open('rb')": 0,
        "os.open(p, 0)": 0,
    }
    assert {source: len(list(locale_calls(source))) for source in seen} == seen


def test_every_text_file_names_its_encoding() -> None:
    assert [
        f"{path.relative_to(ROOT)}:{line}"
        for path in FILES
        for line in locale_calls(path.read_text(encoding="utf-8"))
    ] == []


def test_a_recipe_with_chinese_letters_in_another_locale(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: {ROOT}/recipes/local.yaml\nrun_dir: runs/奖励\n", encoding="utf-8")
    code = f"import r1reward.recipe.files as f; print(ascii(f.load_recipe({str(path)!r}).run_dir.name))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (ascii("奖励"), "")
