"""What the documents and docstrings name has to be there: files, folders, make targets."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
CODE = [
    path
    for folder in (
        "r1reward",
        "studies",
        "tools",
        "benchmarks",
        "tests",
        "recipes",
        "docker",
        "cluster",
    )
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".yaml", ".sh") or path.name == "Dockerfile"
]
# A path may be told from any of these folders on.
ROOTS = [ROOT, ROOT / "r1reward", ROOT / "tests", ROOT / "docs", ROOT / "r1reward" / "report"]
ENDINGS = r"(?:py|md|yaml|sh|toml|sbatch|html|css|js)"
QUOTED = re.compile(rf"`+((?:[\w.-]+/)*[\w-]+\.{ENDINGS})(?=[`:])")
LINKED = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)")
PYTHON_FOLDER = re.compile(
    r"(?<![\w/])((?:r1reward|studies|tools|tests|benchmarks)(?:/\w+)+\.py)\b"
)
# Files of a run folder, of the user or of other projects.
ELSEWHERE = re.compile(
    r"recipe\.yaml|r1reward\.yaml|report\.html|stage\.json|rlaif-v.*|mine\..*|my.*|summary\.md|"
    r"trainer/.*|workers/.*|.*\.pth|page\.html|page_.*|.*_preset\.yaml|"
    # What a reader of docs/extending.md is to write.
    r".*/(?:NAME|my_\w+)\.py"
)


def named_paths(text: str) -> set[str]:
    found = set(QUOTED.findall(text)) | set(PYTHON_FOLDER.findall(text))
    return {path for path in found if not ELSEWHERE.fullmatch(path)}


def is_there(path: str, document: Path) -> bool:
    roots = [*ROOTS, document.parent]
    if any((root / path).exists() for root in roots):
        return True
    # In a package a module may be told by its name alone.
    return "/" not in path and any(document.parent.glob(f"*/{path}"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_of_a_document_is_there(document: Path) -> None:
    text = document.read_text()
    links = {link for link in LINKED.findall(text) if "://" not in link}
    lost = sorted(path for path in named_paths(text) | links if not is_there(path, document))
    assert lost == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_function_of_a_document_is_in_its_file(document: Path) -> None:
    """Written as `file.py: function`, with commas between several."""
    for path, names in re.findall(r"`([\w/]+\.py): ([\w, ]+)`", document.read_text()):
        text = (ROOT / "r1reward" / path).read_text()
        for name in names.split(", "):
            assert re.search(rf"^(?:async )?(?:def|class) {name}\b", text, re.MULTILINE), name


def test_every_path_in_the_code_is_there() -> None:
    lost = [
        f"{file.relative_to(ROOT)}: {path}"
        for file in CODE
        if file != Path(__file__)
        for path in sorted(named_paths(file.read_text()))
        if not is_there(path, file)
    ]
    assert lost == []


def test_the_tree_of_the_readme_is_the_tree() -> None:
    tree = (ROOT / "README.md").read_text().partition("    r1reward/\n")[2].partition("\n\n")[0]
    named = {
        word
        for line in tree.splitlines()
        if line.startswith("      ") and not line.startswith("       ")
        for word in re.split(r"\s{2,}", line.strip())[0].split()
    }
    modules = {path.name for path in (ROOT / "r1reward").glob("*.py") if "__" not in path.name}
    packages = {f"{path.parent.name}/" for path in (ROOT / "r1reward").glob("*/__init__.py")}
    assert named == modules | packages


def test_every_target_that_is_named_is_made() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text()
        named = set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, document.name
