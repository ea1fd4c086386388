"""Writes constraints/cpu.txt: the version of every package that ``make setup`` and the images install.

Run by ``make constraints`` in an environment that ``make setup`` made and the tests passed in. What the
environment lacks of the project's extras, as pip would install it now, is added.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints" / "cpu.txt"
HEADER = """\
# Every package that `make setup` and the images install, written by `make constraints`. A version
# without a local part also stands for builds of it: torch==2.13.0 for 2.13.0+cpu. A machine with a GPU
# installs what CUDA needs beside these, at the versions that torch and vLLM ask for.
"""


def constraints(versions: Mapping[str, str]) -> str:
    """Returns the file's text for these versions by name; a local part (``+cpu``) is left out."""
    pins = (f"{name.lower()}=={version.partition('+')[0]}" for name, version in versions.items())
    return HEADER + "".join(f"{pin}\n" for pin in sorted(pins))


def installed() -> dict[str, str]:
    """The versions of the environment, without pip and this project."""
    listed = pip("list", "--format=json", "--exclude-editable", "--exclude=pip")
    return {package["name"]: package["version"] for package in json.loads(listed)}


def lacking(extras: str, text: str) -> dict[str, str]:
    """What pip would add to the environment for these extras under constraints of this text."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text(text, encoding="utf-8")
        options = ("--dry-run", "--quiet", "--report=-", f"--constraint={file}")
        report = json.loads(pip("install", *options, "--editable", f"{ROOT}[{extras}]"))
    packages = [entry["metadata"] for entry in report["install"]]
    return {p["name"]: p["version"] for p in packages if p["name"] != "r1reward"}


def pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    here = installed()
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(
        constraints(here | lacking("cpu,dev,s3,gcs", constraints(here))), encoding="utf-8"
    )
