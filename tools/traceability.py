"""Writes `docs/traceability.md` and the demo's extract from `docs/traceability.toml`, or says what in it is not true.

`--write` writes both, `--check` exits 1 where they are not current or a target does not exist.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import json
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCE: Final = ROOT / "docs" / "traceability.toml"
TABLE: Final = ROOT / "docs" / "traceability.md"
EXTRACT: Final = ROOT / "src" / "mpesa_sync" / "demo" / "plan.json"

DONE, PART, NOT_YET = "done", "part", "not yet"
STATES: Final = (DONE, PART, NOT_YET)
EXPECTED: Final = frozenset(
    [f"T{n}" for n in range(1, 10)]
    + [
        f"T{task}.{n}"
        for task, last in ((1, 3), (2, 3), (4, 4), (5, 2), (6, 2), (7, 2), (8, 2))
        for n in range(1, last + 1)
    ]
    + [f"R{group}.{n}" for group, last in ((1, 4), (2, 4), (3, 4), (4, 4), (5, 4)) for n in range(1, last + 1)]
    + [f"P{n}" for n in range(1, 10)]
)
"""Every task, requirement and property of the plan."""
HEADINGS: Final = {"T": "Tasks", "R": "Requirements", "P": "Properties"}
_DEAD_MARKS: Final = frozenset({"skip", "skipif", "xfail"})


@dataclass(frozen=True)
class Item:
    """One item of the plan, as `traceability.toml` claims it."""

    id: str
    title: str
    state: str = ""
    issue: int | None = None
    missing: str = ""
    symbols: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    command: str = ""


def load(text: str) -> list[Item]:
    """Return the items of a TOML text; a task without a state of its own gets its parts' together."""
    found = [Item(**{key: _value(value) for key, value in entry.items()}) for entry in tomllib.loads(text)["item"]]
    return [item if item.state else _of_parts(item, found) for item in found]


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _of_parts(item: Item, items: list[Item]) -> Item:
    parts = [part for part in items if part.id.startswith(f"{item.id}.")]
    states = {part.state for part in parts}
    state = states.pop() if len(states) == 1 else PART
    return replace(
        item,
        state=state,
        issue=None if state == DONE else max((part.issue or 0 for part in parts), default=0),
        tests=_union(part.tests for part in parts),
        steps=_union(part.steps for part in parts),
        missing=item.missing or ("" if state == DONE else "see its parts"),
    )


def _union(lists: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry for entries in lists for entry in entries))


def faults(items: list[Item]) -> list[str]:
    """Return everything that is claimed and not so, in words; empty where all of it is true."""
    ids = [item.id for item in items]
    found = [f"{missing} is missing" for missing in sorted(EXPECTED - set(ids))]
    found += [f"{unknown} is no item of the plan" for unknown in sorted(set(ids) - EXPECTED)]
    found += [f"{twice} is there twice" for twice in sorted({one for one in ids if ids.count(one) > 1})]
    for item in items:
        found += [f"{item.id}: {fault}" for fault in _faults_of(item)]
    return found + _step_faults(items)


def _faults_of(item: Item) -> list[str]:
    found = [f"cannot import {symbol}" for symbol in item.symbols if not importable(symbol)]
    found += [f"there is no test {node}" for node in item.tests if not live_tests(node)]
    if item.state not in STATES:
        found.append(f"the state must be one of {', '.join(STATES)}")
    if item.state == DONE and not any(live_tests(node) for node in item.tests):
        found.append("is done, and no live test says so")
    if item.state != DONE and not (item.issue and item.missing):
        found.append(f"is {item.state}: say what is missing, and which issue brings it")
    if item.state == NOT_YET and item.steps:
        found.append("is not yet there, and a step of the demo claims to show it")
    return found


def _step_faults(items: list[Item]) -> list[str]:
    """Hold the steps that are claimed against the labels that the demo's steps carry."""
    from mpesa_sync.demo.story import STEPS

    labels = {step.id: set(step.ids) for step in STEPS}
    known = {item.id for item in items}
    found = [f"step {step}: {label} is no item of the plan" for step, ids in labels.items() for label in ids - known]
    for item in items:
        shown_by = {step for step, ids in labels.items() if item.id in ids}
        is_whole = any(other.id.startswith(f"{item.id}.") for other in items)
        for step in item.steps:
            if step not in labels:
                found.append(f"{item.id}: the demo has no step {step}")
            elif not is_whole and step not in shown_by:
                found.append(f"{item.id}: step {step} of the demo does not carry its label")
        found += [f"{item.id}: step {step} carries its label and is not listed" for step in shown_by - set(item.steps)]
    return found


def importable(symbol: str) -> bool:
    """Return whether `module:name.attribute` can be imported; `module` alone is one too."""
    module, _, path = symbol.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in filter(None, path.split(".")):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        return False
    return True


@functools.cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def live_tests(node: str) -> list[str]:
    """Return the test functions that `path` or `path::Class::test` names and that are not marked to be skipped."""
    path, *names = node.split("::")
    file = ROOT / path
    if not file.is_file():
        return []
    tree = _parsed(file.read_text())
    if any(
        _is_dead_mark(found) for found in tree.body if isinstance(found, ast.Assign) and _names(found) == ["pytestmark"]
    ):
        return []
    body: list[ast.stmt] = tree.body
    for name in names[:-1]:
        body = next((found.body for found in body if isinstance(found, ast.ClassDef) and found.name == name), [])
    return [test for test in _tests(body) if not names or test == names[-1]]


def _tests(body: list[ast.stmt]) -> list[str]:
    """Return the live tests of a module or class: functions, tests of classes, and Hypothesis' state machines."""
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            if not any(_is_dead_mark(decorator) for decorator in node.decorator_list):
                found.append(node.name)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            found += _tests(node.body)
        elif isinstance(node, ast.Assign):
            found += [name for name in _names(node) if name.startswith("Test")]
    return found


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def _is_dead_mark(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Attribute) and part.attr in _DEAD_MARKS for part in ast.walk(node))


def table(items: list[Item]) -> str:
    """Return `docs/traceability.md`."""
    counts = ", ".join(f"{sum(item.state == state for item in items)} {state}" for state in STATES)
    lines = [
        "# Traceability",
        "",
        "Every task (T), requirement (R) and property (P) of the plan: where it lives, what proves it, which step of",
        "the demo shows it, and how far it is. Written by `tools/traceability.py` from `docs/traceability.toml`; do",
        "not edit it here. CI is red when a symbol, a test or a step that is named here does not exist.",
        "",
        f"{len(items)} items: {counts}. *Done* has a live test; *part* and *not yet* name what is missing and the",
        "issue that brings it. See a step with `mpesa-sync demo --check`; run a test with",
        "`.venv/bin/python -m pytest tests/PATH`. The issues that bring what is not yet there: 3 the web pages and the",
        "API, 4 survival and alerts, 5 migration, guards and reconciliation, 6 the apps at scale, 7 the whole proven.",
    ]
    for letter, heading in HEADINGS.items():
        lines += ["", f"## {heading}", ""]
        lines += ["| id | what | status | where | tests | demo steps | see it |", "|---|---|---|---|---|---|---|"]
        lines += [_row(item) for item in items if item.id.startswith(letter)]
    return "\n".join(lines) + "\n"


def _row(item: Item) -> str:
    status = f"**{item.state}**"
    if item.state != DONE:
        status += f", issue {item.issue}: {item.missing}"
    cells = [
        item.id,
        item.title,
        status,
        _listed(symbol.removeprefix("mpesa_sync.").replace(":", ".") for symbol in item.symbols),
        _listed(f"{test.removeprefix('tests/')}" for test in item.tests),
        _listed(item.steps),
        f"`{item.command}`" if item.command else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _listed(values: Any) -> str:
    return "<br>".join(f"`{value}`" for value in values)


def extract(items: list[Item]) -> str:
    """Return `demo/plan.json`: what the demo needs to judge its claims."""
    entries = [
        {
            "id": item.id,
            "title": item.title,
            "state": item.state,
            "issue": item.issue,
            "steps": item.steps,
            "tests": len(item.tests),
        }
        for item in items
    ]
    return "[\n" + ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n"


def outdated(items: list[Item]) -> list[str]:
    """Return the generated files that are not what they would be now."""
    generated = {TABLE: table(items), EXTRACT: extract(items)}
    return [
        str(path.relative_to(ROOT))
        for path, text in generated.items()
        if not path.is_file() or path.read_text("utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Run the tool and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="exit 1 where something is not true or not current")
    what.add_argument("--write", action="store_true", help="write docs/traceability.md and the demo's extract")
    options = parser.parse_args(arguments)
    items = load(SOURCE.read_text("utf-8"))
    if options.write:
        TABLE.write_text(table(items), "utf-8")
        EXTRACT.write_text(extract(items), "utf-8")
    found = faults(items)
    found += [f"{path} is not current: run 'make traceability'" for path in outdated(items)]
    for fault in found:
        print(fault, file=sys.stderr)
    if not found:
        print(f"traceability: {len(items)} items, all of it true")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
