"""Shell scripts and the Dockerfile have nothing that their linters know to be wrong."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = [
    ROOT / ".ci" / "run",
    *sorted((ROOT / "docker").glob("*.sh")),
    *sorted((ROOT / "cluster").glob("**/*.sbatch")),
]


def linter(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: the dev extra has it, `make setup` installs that")
    return found


def complaints(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"[{done.returncode}]")


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.name for path in SCRIPTS])
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    assert complaints(linter("shellcheck"), "--shell=bash", script) == ""


def test_hadolint_has_nothing_to_say() -> None:
    assert complaints(linter("hadolint"), ROOT / "docker" / "Dockerfile") == ""


def test_the_linters_do_complain(tmp_path: Path) -> None:
    script = tmp_path / "bad.sh"
    script.write_text("#!/bin/bash\nrm -rf $1/*\n")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM debian\nADD https://example.com/a /a\n")
    assert "SC2086" in complaints(linter("shellcheck"), "--shell=bash", script)
    assert "DL3006" in complaints(linter("hadolint"), dockerfile)


def test_the_scripts_are_found() -> None:
    assert {"run", "setup.sh", "smoke.sh", "train.sbatch"} == {path.name for path in SCRIPTS}
