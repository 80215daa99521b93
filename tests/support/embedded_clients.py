"""Helpers of the `test_embedded_*` files: client processes to kill, and waiting with a deadline."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

BARE = """
import sys, types
from pathlib import Path
package = Path({!r})
for name in ("mpesa_sync", "mpesa_sync.db"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(package / "db" if name.endswith("db") else package)]
"""
"""Makes the embedded server importable for a Python that has none of our dependencies."""

CLIENT = """
import sys
from pathlib import Path
from mpesa_sync.db import embedded
with embedded.start(Path(sys.argv[1])) as server:
    print(server.url, server.postmaster_pid, server.supervisor_pid, flush=True)
    sys.stdin.read()
"""
"""Uses the server of a folder until its standard input is closed."""


class Client:
    """Another process that uses the server of `home`."""

    def __init__(self, home: Path, *, argv: list[str] | None = None, bare: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [*(argv or [sys.executable]), "-c", (BARE.format(str(bare)) if bare else "") + CLIENT, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = ""
        self.postmaster = 0
        self.supervisor = 0

    def ready(self) -> Client:
        """Wait until it has its server."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        words = self.process.stdout.readline().split()
        assert len(words) == 3, self.process.stderr.read()
        self.url, self.postmaster, self.supervisor = words[0], int(words[1]), int(words[2])
        return self

    def leave(self) -> None:
        """End it in good order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)

    def kill(self) -> None:
        """End it with SIGKILL, if it is still there."""
        self.process.kill()
        self.process.wait(timeout=30)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def client(home: Path, *, argv: list[str] | None = None, bare: Path | None = None) -> Iterator[Client]:
    """A ready client, killed at the end if it is still there."""
    started = Client(home, argv=argv, bare=bare)
    try:
        yield started.ready()
    finally:
        started.kill()


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has collected does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def until(condition: Callable[[], object], what: str, *, timeout_s: float = 40.0) -> None:
    """Wait for a condition; fails, saying `what` was expected, after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"expected {what}"
        time.sleep(0.01)


def servers_of(home: Path) -> list[int]:
    """Process ids of every live PostgreSQL process that stands in the data folder of `home`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            where = str((entry / "cwd").readlink()) if entry.name.isdigit() else ""
        except OSError:
            continue
        if where == str(home / "postgres" / "data"):
            found.append(int(entry.name))
    return found


async def ask(url: str, *statements: str) -> object:
    """Run statements on a connection of its own; returns the first value of the last."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        answer: object = None
        for statement in statements:
            answer = await connection.fetchval(statement)
        return answer
    finally:
        await connection.close()
