"""Many commands of the real command line in little time: one process loads the program, each command is a fork of it.

Started as `python -m tests.support.many_commands`. It reads one JSON list a line, the words of a command, and answers
each with a JSON object: its exit code, and what it wrote to stdout and stderr.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.cli import Ended

_ROOT: Final = Path(__file__).parents[2]
_TIMEOUT_S: Final = 120


def serve() -> None:
    """Answer one command a line until the end of input."""
    from mpesa_sync.cli import main

    main.build()  # loads what every command loads
    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                code = main.main(json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            _, status = os.waitpid(child, 0)
            out.seek(0)
            err.seek(0)
            said = {"code": os.waitstatus_to_exitcode(status), "out": out.read().decode(), "err": err.read().decode()}
        sys.__stdout__.write(json.dumps(said) + "\n")  # type: ignore[union-attr]  # it is a pipe


def run(lines: Sequence[str], variables: Mapping[str, str], cwd: Path) -> list[Ended]:
    """Run these commands one after another with a whole environment in a folder; return how each ended."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.many_commands"],
        env={**variables, "PYTHONPATH": f"{variables.get('PYTHONPATH', '')}:{_ROOT}".lstrip(":")},
        cwd=cwd,
        input="".join(json.dumps(line.split()) + "\n" for line in lines),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return [Ended(**json.loads(line)) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    serve()
