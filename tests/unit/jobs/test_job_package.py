"""What a cluster job is sent: which files, which recipe, and what is refused before sending."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random
from zipfile import ZipFile

import pytest

from r1reward.cli.main import main
from r1reward.errors import InputError, RecipeError
from r1reward.jobs import package as job_package
from r1reward.jobs.package import JOB_RECIPE, check_paths, tree_files, write_package
from r1reward.recipe.files import load_recipe
from r1reward.recipe.recipe import Recipe

LOCAL = str(Path(__file__).parents[3] / "recipes" / "local.yaml")


def make_tree(root: Path) -> None:
    for name in (
        "r1reward/loop.py",
        "r1reward/runs/folder.py",
        "run.sh",
        "data/pairs.jsonl",
        "notes/secret.txt",
        ".env",
        ".venv/bin/python",
        "runs/a/metrics.jsonl",
        "r1reward/__pycache__/loop.pyc",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "run.sh").chmod(0o755)


@pytest.mark.parametrize("with_git", [False, True])
def test_the_tree_is_shipped_without_runs_caches_environments_and_secrets(
    tmp_path: Path, with_git: bool
) -> None:
    make_tree(tmp_path)
    if with_git:
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shipped = ["data/pairs.jsonl", "r1reward/loop.py", "r1reward/runs/folder.py", "run.sh"]
    assert tree_files(tmp_path, ["notes"]) == shipped
    assert "notes/secret.txt" in tree_files(tmp_path, ["notes/other.txt", "*.md"])


def test_what_git_ignores_stays(tmp_path: Path) -> None:
    make_tree(tmp_path)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("data/\n")
    assert "data/pairs.jsonl" not in tree_files(tmp_path)
    assert "run.sh" in tree_files(tmp_path)


def test_equal_trees_are_equal_packages_and_the_recipe_is_whole(tmp_path: Path) -> None:
    """A recipe from outside of the tree, with a base and overrides, travels as one file."""
    tree, outside = tmp_path / "tree", tmp_path / "elsewhere"
    make_tree(tree)
    outside.mkdir()
    (outside / "mine.yaml").write_text(f"base: {LOCAL}\nname: mine\n")
    recipe = load_recipe(outside / "mine.yaml", ["seed=7"])
    files = tree_files(tree)
    write_package(tree, files, recipe, tmp_path / "a.zip")
    (tree / "run.sh").touch()
    write_package(tree, files, recipe, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [*files, JOB_RECIPE]
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o777 == 0o755
        archive.extract(JOB_RECIPE, tmp_path)
    assert load_recipe(tmp_path / JOB_RECIPE) == recipe
    assert recipe.seed == 7 and recipe.name == "mine"


def test_a_tree_that_ray_would_refuse_is_an_error_that_names_what_is_large(
    tmp_path: Path, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_package, "MAX_PACKAGE_BYTES", 2**20)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.bin").write_bytes(bytes(range(256)) * 3 * 2**13)
    (tmp_path / "noise").write_bytes(Random(0).randbytes(3 * 2**19))
    with pytest.raises(InputError, match=r"at most 1 MB \(noise 2 MB.*--exclude"):
        write_package(tmp_path, tree_files(tmp_path), tiny_recipe, tmp_path / "x.zip")


def test_paths_must_mean_the_same_on_the_cluster(tmp_path: Path) -> None:
    def check(*overrides: str) -> None:
        check_paths(load_recipe(LOCAL, overrides), tmp_path, ["data/a.jsonl", "data/img/1.png"])

    with pytest.raises(RecipeError, match="run_dir=/mnt/shared/runs/local"):
        check()
    run = f"run_dir={tmp_path}/run"
    check(run)
    check(run, "data.train={type: file, path: data/a.jsonl, images: data/img}")
    check(run, "data.train={type: file, path: /mnt/a.jsonl}")
    with pytest.raises(RecipeError, match=r"data.train.path is data/b.jsonl, which is not among"):
        check(run, "data.train={type: file, path: data/b.jsonl}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["learner.lrr=1"], "did you mean 'lr'?"),
        ([], "give an absolute path on storage that every node sees"),
        (["run_dir=/tmp/x", "--secret", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE, which is not set"),
        (["run_dir=/tmp/x", "--address", "head:8265"], "for example http://head:8265"),
        (["run_dir=/tmp/x", "--address", "http://me:word@head"], "nothing secret in it"),
    ],
)
def test_a_wrong_job_is_status_2_before_anything_is_sent(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = ["--address", "http://127.0.0.1:9"]
    assert main(["submit", LOCAL, *address, *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_an_unknown_flag_is_not_an_override(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["submit", LOCAL, "--address", "http://127.0.0.1:9", "--seceret", "X"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --seceret" in capsys.readouterr().err
