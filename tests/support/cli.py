"""The real command line, run as a process of its own: its exit code, its stdout and its stderr."""

from __future__ import annotations

import functools
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from tests.support import forked

_TIMEOUT_S: Final = 30


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stood on stdout, which must be one JSON value and nothing else."""
        return json.loads(self.out)


def environment(url: str | None = None, **more: str) -> dict[str, str]:
    """Return an environment that names nothing but `url` and `more`: none of the machine's settings get in."""
    named = {} if url is None else {"MPESA_SYNC_DATABASE_URL": url}
    planted = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}  # a mutant under test
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **planted, **named, **more}


def cli(*arguments: str, url: str | None = None, cwd: Path | None = None, **more: str) -> Ended:
    """Run `mpesa-sync` away from any terminal; `more` are further variables."""
    return to_its_end(arguments, environment(url, **more), cwd)


def to_its_end(
    arguments: Sequence[str], variables: Mapping[str, str], cwd: Path | None, timeout_s: float = _TIMEOUT_S
) -> Ended:
    """Do what `cli` does with a whole environment, and with a time of one's own for a command that takes long.

    It is a fork of a process that has loaded the program, unless a variable is given that other programs read, too:
    then it is started, for what is loaded may read it.
    """
    loaded_with = environment()
    foreign = {name: value for name, value in variables.items() if not name.startswith(("MPESA", "DATABASE_URL"))}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if foreign == loaded_with:
            code = forked.run(arguments, variables, cwd, timeout_s, out, err, loaded_with=loaded_with)
        else:
            code = subprocess.run(
                [sys.executable, "-m", "mpesa_sync", *arguments],
                env=dict(variables),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=timeout_s,
            ).returncode
        out.seek(0)
        err.seek(0)
        return Ended(code, out.read().decode(), err.read().decode())


def on_terminal(arguments: Sequence[str], variables: Mapping[str, str], typed: str = "", *, asked: str = "") -> Ended:
    """Run it on a terminal of its own and type `typed` once it has printed `asked` (or anything).

    stdout and stderr come as one text in `out`. A program that neither asks nor ends in time is killed, and fails.
    """
    main, side = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "mpesa_sync", *arguments],
        env={"TERM": "xterm-256color", "COLUMNS": "80", **variables},
        preexec_fn=functools.partial(os.login_tty, side),
    ) as process:
        os.close(side)
        seen, deadline = "", time.monotonic() + _TIMEOUT_S
        while part := _read(main, deadline):
            seen += part
            if typed and asked in seen:
                os.write(main, typed.encode())
                typed = ""
        if time.monotonic() >= deadline:
            process.kill()
        code = process.wait(_TIMEOUT_S)
    os.close(main)
    return Ended(code, seen.replace("\r\n", "\n"), "")


def _read(terminal: int, deadline: float) -> str:
    """Return what comes next, nothing at the end of the program or of the time."""
    ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
    try:
        return os.read(terminal, 65536).decode() if ready else ""
    except OSError:  # on Linux the end of a terminal is an error, not an empty read
        return ""


def with_password(url: str, password: str) -> str:
    """Return the URL with another password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{password}@{parts.hostname}:{parts.port}"))


def as_role(url: str, role: str, password: str) -> str:
    """Return the URL for another role."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}"))
