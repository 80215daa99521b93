"""What `docs/architecture.md` and the conventions promise about the code, read off the code itself."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
SRC: Final = ROOT / "src" / "mpesa_sync"
MODULES: Final = sorted(SRC.rglob("*.py"))
OTHERS: Final = [path for folder in ("tests", "tools", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
MAX_LINES: Final = 300
MAX_FUNCTION_LINES: Final = 60

LAYERS: Final = [
    {
        "errors",
        "refusals",
        "settings",
        "settings_reader",
        "secret",
        "clock",
        "backoff",
        "monitoring.names",
        "monitoring.logs",
        "monitoring.metrics",
    },
    {"domain"},
    {"crypto", "db", "identity", "daraja"},
    {"sync", "live"},
    {"migration", "jobs", "monitoring.health"},
    {"bootstrap"},
    {"web"},
    {"demo"},
    {"cli"},
]
"""From the bottom up: a part imports only from its own layer and from those below (architecture.md)."""
ORDER_WITHIN: Final = {("db", "crypto"), ("identity", "crypto"), ("identity", "db")}
"""Allowed inside one layer: the first may import the second."""
ENTRIES: Final = {"", "__main__", "migration.__main__"}
"""The package's front door and the runnable modules, which name what is above them."""


def _name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _layer(name: str) -> tuple[int, str]:
    for number, layer in enumerate(LAYERS):
        for part in sorted(layer, key=len, reverse=True):
            if name == part or name.startswith(part + "."):
                return number, part
    if name == "monitoring":
        return 0, "monitoring.names"
    raise AssertionError(f"mpesa_sync.{name} has no place in LAYERS")


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return the tree of a file, made once for all that is asked about it."""
    return ast.parse(path.read_text())


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mpesa_sync"):
            base = node.module.removeprefix("mpesa_sync").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                is_module = (SRC / inner.replace(".", "/")).is_dir() or (
                    SRC / f"{inner.replace('.', '/')}.py"
                ).is_file()
                yield node.lineno, inner if is_module else base
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("mpesa_sync"):
                    yield node.lineno, alias.name.removeprefix("mpesa_sync").lstrip(".")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_flow_one_way(path: Path) -> None:
    """architecture.md: leaves ← domain ← crypto, db ← sync, live ← migration … ← cli."""
    name = _name(path)
    if name in ENTRIES:
        return
    number, part = _layer(name)
    for line, imported in _imports(path):
        below, other = _layer(imported)
        allowed = below < number or other == part or (number, below) == (0, 0) or (part, other) in ORDER_WITHIN
        assert allowed, f"{path}:{line}: {name} must not import {imported}"


@pytest.mark.parametrize(
    "path",
    [
        *MODULES,
        *(path for folder in ("tests", "tools", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))),
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_files_and_functions_stay_readable(path: Path) -> None:
    """Layout rules: at most 300 lines a file and 60 a function, and a docstring that says what lives there."""
    tree = parsed(path)
    assert len(path.read_text().splitlines()) <= MAX_LINES, f"{path} has grown past {MAX_LINES} lines"
    assert ast.get_docstring(tree), f"{path} does not say what lives in it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{path}:{node.lineno}: {node.name} has {length} lines"


def test_only_settings_reads_the_environment() -> None:
    """Layout rules: one module reads `os.environ`."""
    readers = {_name(path) for path in MODULES if re.search(r"os\.environ|getenv|environb", path.read_text())}
    assert readers == {"settings"}


WRITES_PAIR: Final = re.compile(
    r"update\s+(?:only\s+)?(?:public\.)?(?:bars|mpesa_credentials)\b.*?\bset\b[^;]*?\b(?:is_active|mpesa_enabled)\b"
    r"|insert\s+into\s+(?:public\.)?(?:bars|mpesa_credentials)\b",
    re.IGNORECASE | re.DOTALL,
)
MAY_WRITE_PAIR: Final = {
    "sync/statements.py",
    "db/schema/migrations/0002_writer.sql",
    "db/schema/migrations/0005_settings.sql",
    "db/schema/migrations/0010_guards.sql",
}


def test_only_the_writer_changes_the_status_pair() -> None:
    """Layout rules: the statements stand beside `sync.writer`; the demo plays the programs that do it wrong."""
    files = [*MODULES, *sorted(SRC.rglob("*.sql"))]
    found = {
        path.relative_to(SRC).as_posix()
        for path in files
        if WRITES_PAIR.search(path.read_text()) and path.relative_to(SRC).parts[0] != "demo"
    }
    found.discard("db/schema/current.sql")  # equal to the migrations, which another test proves
    assert found == MAY_WRITE_PAIR


def test_only_the_writer_runs_the_statements_that_write() -> None:
    """Layout rules: nobody else imports `sync.statements`."""
    users = {
        _name(path) for path in MODULES for _, imported in _imports(path) if imported.startswith("sync.statements")
    }
    assert users == {"sync.writer"}


SQL_WORDS: Final = re.compile(
    r"\b(select\s.+\sfrom|insert\s+into|update\s+\S+\s+set|delete\s+from|drop\s|create\s)", re.I | re.S
)
HOLDS_SQL: Final = ("db.", "sync.statements", "demo.")


def _constants(tree: ast.AST) -> Iterator[ast.Constant]:
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_statements_stand_where_they_belong(path: Path) -> None:
    """Layout rules: SQL only in `db`, beside the writer, and in the demo's programs that do it wrong."""
    if _name(path).startswith(HOLDS_SQL):
        return
    for node in _constants(parsed(path)):
        assert not SQL_WORDS.search(str(node.value)), f"{path}:{node.lineno}: a statement outside db"


RUNS_SQL: Final = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_statements_are_never_built(path: Path) -> None:
    """Layout rules, faults.md: parameters only. What is run is a name or a literal, never put together from values."""
    for node in ast.walk(parsed(path)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in RUNS_SQL
            and node.args
        ):
            first = node.args[0]
            built = isinstance(first, ast.JoinedStr | ast.BinOp) or (
                isinstance(first, ast.Call) and isinstance(first.func, ast.Attribute) and first.func.attr == "format"
            )
            assert not built, f"{path}:{node.lineno}: a built statement"


def test_one_function_commits() -> None:
    """Conventions: one function is the only commit."""
    commits = [
        f"{_name(path)}:{node.lineno}"
        for path in MODULES
        if not _name(path).startswith("demo")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and any(isinstance(arg, ast.Constant) and re.match(r"\s*commit\b", str(arg.value), re.I) for arg in node.args)
    ]
    assert len(commits) == 1, commits
    assert commits[0].startswith("db.transaction:")


def test_lock_files_name_no_index_and_pin_every_package_with_hashes() -> None:
    """Rules of the repository: hashed lock files without the name of any host."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        assert "://" not in text, path
        assert "--hash=sha256:" in text, path
        pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert all("==" in line for line in pinned), path
