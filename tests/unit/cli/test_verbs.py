"""What holds for every verb: its arguments, overrides, and that argparse stays where it is."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import r1reward.cli.main
from r1reward.cli.main import VERBS, main, parse
from r1reward.cli.plan import PlanArguments
from r1reward.cli.verb import Verb, VerbGroup
from r1reward.pipeline import run as pipeline_run

CLI = Path(r1reward.cli.main.__file__).parent
LOCAL = str(Path(__file__).parents[3] / "recipes" / "local.yaml")


def all_verbs() -> Iterator[tuple[list[str], Verb]]:
    """Every verb with the words that it is chosen by."""
    for verb in VERBS:
        if isinstance(verb, VerbGroup):
            yield from (([verb.name, action.name], action) for action in verb.actions)
        else:
            yield [verb.name], verb


def minimal(verb: Verb) -> list[str]:
    """As few arguments as the verb takes."""
    words = []
    for item in fields(verb.arguments):
        settings = item.metadata["settings"]
        if item.metadata["prefix"] and settings.get("required"):
            words += [f"--{item.name}", "x"]
        elif not item.metadata["prefix"] and settings.get("nargs") not in ("?", "*"):
            words.append("x")
    return words


@pytest.mark.parametrize(
    ("words", "verb"), [pytest.param(w, v, id=" ".join(w)) for w, v in all_verbs()]
)
def test_every_verb_gets_the_dataclass_of_its_arguments(words: list[str], verb: Verb) -> None:
    more = ["--model", "x", "--bench", "shapes"] if words == ["eval"] else minimal(verb)
    chosen, parsed = parse([*words, *more])
    assert chosen is verb
    assert type(parsed) is verb.arguments
    with pytest.raises(AttributeError):
        parsed.anything = 1


def test_overrides_may_stand_behind_an_option() -> None:
    _, parsed = parse(["plan", "r.yaml", "a=1", "--gpu-gb", "40", "b=2", "--images", "3", "c=4"])
    assert parsed == PlanArguments("r.yaml", ["a=1", "b=2", "c=4"], 40.0, 8, None, 3)


def test_argparse_is_known_to_the_command_line_alone() -> None:
    """No function below gets a namespace: only three files import the module at all."""
    users = set()
    for path in CLI.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import) and "argparse" in {alias.name for alias in node.names}:
                users.add(path.relative_to(CLI.parent).as_posix())
    assert users == {"cli/main.py", "cli/verb.py", "cli/evaluate.py"}


def test_after_ctrl_c_training_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline_run, "run_stage", interrupt)
    for verb, how in (("train", "from the last checkpoint"), ("sft", "where it was")):
        assert main([verb, LOCAL, f"run_dir={tmp_path / 'run'}"]) == 130
        assert capsys.readouterr().err == f"stopped; the same command goes on {how}\n"
