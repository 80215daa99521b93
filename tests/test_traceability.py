"""`docs/traceability.md` is current, and nothing that it claims is untrue; the tool that says so can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mpesa_sync.demo import claims
from mpesa_sync.demo.story import STEPS
from tools import traceability
from tools.traceability import DONE, EXPECTED, NOT_YET, PART, Item

ITEMS = traceability.load(traceability.SOURCE.read_text("utf-8"))


def test_everything_claimed_is_true() -> None:
    """Issue 2: red when a target does not exist or an item marked done has no live test."""
    assert traceability.faults(ITEMS) == []


def test_the_generated_files_are_current() -> None:
    """Issue 2: the table is generated; run `make traceability` after a change."""
    assert traceability.outdated(ITEMS) == []


def test_every_item_of_the_plan_is_there() -> None:
    """T1 … T9, R1.1 … R5.4, P1 … P9: 27 tasks, 20 requirements, 9 properties."""
    assert {item.id for item in ITEMS} == EXPECTED
    assert len(EXPECTED) == 27 + 20 + 9


def test_the_demo_reads_what_the_table_says() -> None:
    """The extract that an installed package has is the same claim."""
    plan = {item.id: (item.title, item.state.value, item.steps) for item in claims.plan()}
    assert plan == {item.id: (item.title, item.state, item.steps) for item in ITEMS}


def test_titles_fit_into_the_demos_table() -> None:
    """Readable at 80 columns."""
    assert [item.title for item in ITEMS if len(item.title) > claims.TITLE] == []


def test_steps_have_ids_of_their_own() -> None:
    """A step is named by its id, in the table and in `demo --json`."""
    assert len({step.id for step in STEPS}) == len(STEPS)


def changed(item_id: str, change: Callable[[Item], Item]) -> list[str]:
    """Return the faults that the table has once one item is changed."""
    items = [change(item) if item.id == item_id else item for item in ITEMS]
    return [fault for fault in traceability.faults(items) if fault.startswith(f"{item_id}:")]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda item: replace(item, symbols=("mpesa_sync.sync.manager:Nobody",)), "cannot import"),
        (lambda item: replace(item, symbols=("mpesa_sync.nowhere",)), "cannot import"),
        (lambda item: replace(item, tests=("tests/test_nowhere.py",)), "there is no test"),
        (lambda item: replace(item, tests=("tests/test_manager.py::test_nothing",)), "there is no test"),
        (lambda item: replace(item, tests=()), "no live test"),
        (lambda item: replace(item, steps=(*item.steps, "nowhere")), "the demo has no step nowhere"),
        (lambda item: replace(item, steps=(*item.steps, "dry-run")), "does not carry its label"),
        (lambda item: replace(item, steps=item.steps[1:]), "carries its label and is not listed"),
        (lambda item: replace(item, state=PART), "say what is missing"),
        (lambda item: replace(item, state=NOT_YET, issue=3, missing="all"), "a step of the demo claims to show it"),
        (lambda item: replace(item, state="nearly"), "the state must be one of"),
    ],
)
def test_each_untruth_is_found(change: Callable[[Item], Item], fault: str) -> None:
    """A check that cannot fail is a defect: every rule is broken once."""
    assert any(fault in found for found in changed("T1.1", change))


def test_a_missing_an_unknown_and_a_double_item_are_found() -> None:
    """Every item exactly once."""
    found = traceability.faults([*ITEMS[1:], ITEMS[1], replace(ITEMS[1], id="T1.9")])
    assert {"T1 is missing", "T1.9 is no item of the plan", f"{ITEMS[1].id} is there twice"} <= set(found)


@pytest.mark.parametrize(
    ("code", "live"),
    [
        ("def test_a(): ...", ["test_a"]),
        ("async def test_a(): ...", ["test_a"]),
        ("class TestA:\n    def test_b(self): ...", ["test_b"]),
        ("TestMachine = Machine.TestCase", ["TestMachine"]),
        ("import pytest\n@pytest.mark.skip\ndef test_a(): ...", []),
        ("import pytest\n@pytest.mark.xfail(reason='later')\ndef test_a(): ...", []),
        ("import pytest\npytestmark = pytest.mark.skip\ndef test_a(): ...", []),
        ("def helper(): ...", []),
    ],
)
def test_only_live_tests_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, live: list[str]) -> None:
    """A test that is skipped or expected to fail proves nothing."""
    (tmp_path / "test_x.py").write_text(code)
    monkeypatch.setattr(traceability, "ROOT", tmp_path)
    assert traceability.live_tests("test_x.py") == live


def test_a_task_is_as_far_as_its_parts() -> None:
    """A task without a state of its own cannot claim more than its parts."""
    text = '[[item]]\nid="T1"\ntitle="t"\n' + "".join(
        f'[[item]]\nid="T1.{number}"\ntitle="t"\nstate="{state}"\nissue={number}\n'
        for number, state in enumerate((DONE, NOT_YET), start=1)
    )
    whole = traceability.load(text)[0]
    assert (whole.state, whole.issue) == (PART, 2)


def test_the_tool_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` exits 0 where all is true and 1 where a generated file is not current."""
    assert traceability.main(["--check"]) == 0
    old = tmp_path / "docs.md"
    old.write_text("old")
    monkeypatch.setattr(traceability, "TABLE", old)
    monkeypatch.setattr(traceability, "ROOT", tmp_path)
    monkeypatch.setattr(traceability, "EXTRACT", tmp_path / "plan.json")
    assert traceability.main(["--check"]) == 1
    assert "docs.md is not current" in capsys.readouterr().err
