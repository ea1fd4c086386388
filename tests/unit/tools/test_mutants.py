"""Planted and drawn faults: all still apply, and the edits that are drawn from are what they say."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.mutants.draw import AREAS, SEED, as_fault, drawn, with_notes
from tools.mutants.faults import DRAWN, PLANTED, ROOT, Fault, read_faults, write_faults
from tools.mutants.operators import edits
from tools.mutants.outcomes import Outcome, first_cell, rows_by_fault, summary, table
from tools.mutants.run import left_out
from tools.mutants.suite import OWN_TESTS, stages

FAULTS = read_faults(PLANTED, DRAWN)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_applies_to_the_code_of_today(fault: Fault) -> None:
    source = (ROOT / fault.file).read_text(encoding="utf-8")
    assert fault.applied(source) != source
    assert all((ROOT / test).exists() for test in fault.tests)
    assert fault.equivalent is None or fault.equivalent.endswith(".")


def test_tests_of_the_module_come_first_then_those_that_name_it_then_all() -> None:
    fault = Fault(name="a", file="r1reward/algorithm/advantage.py", old="1", new="2")
    first, second, third = stages(fault, ROOT)
    assert first == ["tests/unit/algorithm/test_advantage.py"]
    assert "tests/unit/algorithm/test_loss_no_gradient.py" in second
    assert not {*first, OWN_TESTS} & set(second)
    assert third == ["tests/unit", "tests/loop"]
    ours = fault.model_copy(update={"tests": ("tests/unit/algorithm/test_step.py",)})
    assert next(stages(ours, ROOT)) == ["tests/unit/algorithm/test_step.py"]
    loop = fault.model_copy(update={"file": "r1reward/loop.py"})
    assert next(stages(loop, ROOT)) == ["tests/loop"]


def test_a_copy_of_the_tree_has_the_package_that_is_called_like_a_folder_of_runs() -> None:
    assert left_out(str(ROOT), ["runs", "r1reward", ".git", ".ci"]) == {"runs", ".git"}
    assert left_out(str(ROOT / "r1reward"), ["runs", "__pycache__"]) == {"__pycache__"}


def test_sixty_are_drawn_and_few_are_equivalent() -> None:
    faults = read_faults(DRAWN)
    assert len(faults) == sum(AREAS.values()) == 60
    assert sum(fault.equivalent is not None for fault in faults) <= 6


def test_the_page_has_every_fault() -> None:
    page = (ROOT / "docs" / "tests.md").read_text(encoding="utf-8")
    rows = rows_by_fault(page)
    assert [fault.name for fault in FAULTS if first_cell(fault) not in rows] == []
    assert "**nothing**" not in page


SOURCE = '''\
"""A docstring with 1 < 2."""

LIMIT = 3


@decorated(times=2)
def f(x: "a < b", flags: list[int]) -> int:
    """Another."""
    assert x > 0
    if x == LIMIT and not flags:
        raise ValueError(f"{x + 1}")
    total = 0.5
    for i in range(x):
        total += max(i, -x)
    return [total * y for y in zip(flags[1:], flags, strict=True)]
'''


def test_edits_are_of_what_decides_and_of_nothing_else() -> None:
    found = {(edit.scope, edit.operator, edit.old, edit.new) for edit in edits(SOURCE)}
    assert found == {
        ("module", "constant", "3", "4"),
        ("f", "condition", "x == LIMIT and not flags", "not (x == LIMIT and (not flags))"),
        ("f", "boolean", "x == LIMIT and not flags", "x == LIMIT or not flags"),
        ("f", "comparison", "x == LIMIT", "x != LIMIT"),
        ("f", "sign or not", "not flags", "flags"),
        ("f", "constant", "0.5", "1.0"),
        ("f", "off by one", "x", "x - 1"),
        ("f", "lost statement", "total += max(i, -x)", "pass"),
        ("f", "min or max", "max", "min"),
        ("f", "sign or not", "-x", "x"),
        ("f", "arithmetic", "total * y", "total / y"),
        ("f", "off by one", "1", "1 + 1"),
        ("f", "constant", "1", "2"),
    }


def test_an_edit_becomes_a_fault_that_applies() -> None:
    for edit in edits(SOURCE):
        fault = as_fault("r1reward/loop.py", SOURCE, edit)
        assert SOURCE.count(fault.old) == 1
        ast.parse(fault.applied(SOURCE))


def test_the_same_line_twice_gets_the_lines_before_it() -> None:
    source = "if a:\n    x = 1\nelse:\n    x = 1\n"
    second = [edit for edit in edits(source) if edit.operator == "constant"][1]
    fault = as_fault("r1reward/loop.py", source, second)
    assert fault.old == "else:\n    x = 1"
    assert fault.applied(source) == "if a:\n    x = 1\nelse:\n    x = 2\n"


def test_a_change_redraws_nothing_of_other_functions(tmp_path: Path) -> None:
    for file in ("loop.py", "rollouts.py"):
        (tmp_path / "r1reward").mkdir(exist_ok=True)
        text = (ROOT / "r1reward" / file).read_text(encoding="utf-8")
        (tmp_path / "r1reward" / file).write_text(text, encoding="utf-8")
    before = list(drawn(tmp_path, SEED))
    assert len(before) == AREAS["r1reward/loop.py"] + AREAS["r1reward/rollouts.py"]
    path = tmp_path / "r1reward" / "loop.py"
    path.write_text("import json\n\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert list(drawn(tmp_path, SEED)) == before


def test_notes_stay_with_their_fault() -> None:
    fault = Fault(name="a", file="r1reward/loop.py", old="1", new="2")
    noted = fault.model_copy(update={"equivalent": "It is never read."})
    other = fault.model_copy(update={"new": "3"})
    assert with_notes([fault, other], [noted]) == [noted, other]


def test_faults_are_written_as_they_are_read(tmp_path: Path) -> None:
    faults = [
        Fault(
            name="a: [1 -> 2]", file="r1reward/loop.py", old='  if "x":\n    y = 1', new="  é: 'q'"
        ),
        Fault(
            name="b", file="r1reward/rollouts.py", old="1", new="2", tests=("t",), equivalent="No."
        ),
    ]
    write_faults(tmp_path / "faults.yaml", faults)
    assert read_faults(tmp_path / "faults.yaml") == faults
    with pytest.raises(ValueError, match="two faults have the same name: a: "):
        read_faults(tmp_path / "faults.yaml", tmp_path / "faults.yaml")


@pytest.mark.parametrize(
    ("source", "new", "problem"),
    [
        ("x = 2", "3", "stands 0 times"),
        ("x = 1 + 1", "3", "stands 2 times"),
        ("x = 1", "(1)", "the same program"),
    ],
)
def test_a_fault_that_does_not_apply_is_an_error(source: str, new: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Fault(name="a", file="r1reward/loop.py", old="1", new=new).applied(source)


def test_a_row_says_what_killed_a_fault() -> None:
    fault = Fault(name="a | b", file="r1reward/loop.py", old="1", new="2")
    same = fault.model_copy(update={"name": "c", "equivalent": "It is never read."})
    outcomes = [
        Outcome(fault, "tests/unit/test_types.py::test_a", 2.4),
        Outcome(fault, None, 90.0),
        Outcome(same, None, 3.0),
        Outcome(same, "tests/unit/test_types.py::test_a", 3.0),
    ]
    assert [outcome.row for outcome in outcomes] == [
        "| a \\| b | `unit/test_types.py::test_a` | 2 |",
        "| a \\| b | **nothing** | 90 |",
        "| c | equivalent: It is never read. | 3 |",
        "| c | `unit/test_types.py::test_a` although it is called equivalent | 3 |",
    ]
    assert [outcome.is_right for outcome in outcomes] == [True, False, True, False]
    assert summary(outcomes, 90) == "4 edits: 2 killed, 2 equivalent, 1 survived; 1.5 minutes."


def test_a_table_has_the_rows_of_its_faults_in_their_order() -> None:
    a, b, c = (
        Fault(name=name, file="r1reward/loop.py", old="1", new="2") for name in ("a | x", "b", "c")
    )
    page = "Text\n| fault | killed by | seconds |\n|---|---|---|\n| gone | x | 1 |\n| a \\| x | y | 2 |"
    rows = rows_by_fault(page) | rows_by_fault(Outcome(b, "tests/unit/test_types.py::z", 3).row)
    assert table([b, a, c], rows).splitlines()[2:] == [
        "| b | `unit/test_types.py::z` | 3 |",
        "| a \\| x | y | 2 |",
    ]
