"""The command line as a process of its own that need not be loaded: one process has loaded it, a command is its fork.

That one is `python -m tests.support.forked`, started by a test process at its first command, and ended with it. A
command gets its arguments, environment, folder and streams, as if it had been started, and what it does not share with
every other command it loads itself.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NoReturn

_ROOT: Final = Path(__file__).parents[2]


def run(
    arguments: Sequence[str],
    variables: Mapping[str, str],
    cwd: Path | None,
    timeout_s: float,
    *streams: IO[bytes],
    loaded_with: Mapping[str, str],
) -> int:
    """Run a command line to its end and return its exit code.

    Arguments:
        streams: the files that are its stdout and its stderr.
        loaded_with: the environment in which the program is loaded.

    Raises:
        TimeoutExpired: it took too long, and was killed.
    """
    asked = {"arguments": [*arguments], "variables": {**variables}, "cwd": str(cwd or Path.cwd()), "for_s": timeout_s}
    answers, theirs = socket.socketpair()
    with answers:
        with theirs:
            fds = [theirs.fileno(), *(stream.fileno() for stream in streams)]
            socket.send_fds(_loaded(tuple(loaded_with.items())), [b"."], fds)
        answers.sendall(json.dumps(asked).encode())
        answers.shutdown(socket.SHUT_WR)
        code = int(_all_of(answers))
    if code == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(list(arguments), timeout_s)
    return code


@functools.cache
def _loaded(variables: tuple[tuple[str, str], ...]) -> socket.socket:
    """Start the process that loads the program and return what it is asked over; its end is the end of the process."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env=dict(variables),
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _all_of(asking: socket.socket) -> bytes:
    return b"".join(iter(lambda: asking.recv(65536), b""))


def serve(control: socket.socket) -> None:
    """Fork for every command that is asked for, until nobody can ask any more."""
    from mpesa_sync.cli import main

    with contextlib.redirect_stdout(io.StringIO()):
        main.main(["check", "--help"])  # loads what every command loads
    gc.freeze()  # a fork that never looks at what was loaded does not copy it either
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for a command
    while (found := socket.recv_fds(control, 1, 3))[0]:
        asking, *streams = found[1]
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            _answer(socket.socket(fileno=asking), streams)
            os._exit(0)
        for fd in found[1]:
            os.close(fd)


def _answer(asking: socket.socket, streams: Sequence[int]) -> None:
    asked = json.loads(_all_of(asking))
    child = os.fork()
    if child == 0:
        asking.close()
        _become(streams, **asked)
    _, status = os.waitpid(child, 0)
    asking.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _become(
    streams: Sequence[int], *, arguments: list[str], variables: dict[str, str], cwd: str, for_s: float
) -> NoReturn:
    """Be the command, up to its end, which skips nothing but the taking apart of what was loaded."""
    from mpesa_sync.cli import main

    for number, fd in enumerate(streams, start=1):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv[1:] = arguments
    signal.alarm(math.ceil(for_s))
    try:
        main.run()
    except SystemExit as ended:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
