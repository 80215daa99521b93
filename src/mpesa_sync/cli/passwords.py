"""Where a new password comes from: typed twice and hidden, a line of stdin, or made up here."""

from __future__ import annotations

import asyncio
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from mpesa_sync.cli import output
from mpesa_sync.errors import ConfigurationError, InvalidInput
from mpesa_sync.identity import passwords
from mpesa_sync.secret import Secret

STDIN = "--password-stdin"
GENERATE = "--generate-password"
ASK = "--new-password"
_LONGEST_LINE = 4096


def check_options(*given: bool) -> None:
    """Refuse more than one way to a password.

    Raises:
        ConfigurationError: more than one option was given.
    """
    if sum(given) > 1:
        raise ConfigurationError([f"{STDIN}, {GENERATE} and {ASK} exclude each other"])


def check_source(*, from_stdin: bool, generated: bool) -> None:
    """Refuse before anything is done where no password could be had.

    Raises:
        ConfigurationError: it must be asked for and there is no terminal to ask on.
    """
    if not (from_stdin or generated or (sys.stdin.isatty() and sys.stderr.isatty())):
        raise ConfigurationError(
            [f"there is no terminal to ask for a password on: give {STDIN} to send it, or {GENERATE} to get one"]
        )


async def new(name: str, *, from_stdin: bool, generated: bool) -> Secret:
    """Return a password that meets the rules, for the account `name`.

    Raises:
        InvalidInput: it does not meet the rules, or the two that were typed differ.
    """
    if generated:
        return passwords.generate()
    if from_stdin:
        return _acceptable(Secret(sys.stdin.readline(_LONGEST_LINE).rstrip("\r\n")))
    with _unseen():
        password = _acceptable(await _typed(f"Password for {name} (at least {passwords.SHORTEST} characters): "))
        if await _typed("The same again: ") != password:
            raise InvalidInput("password", "was not the same both times")
    return password


async def hidden_line(question: str) -> Secret:
    """Ask on the terminal for a line that is not shown while it is typed."""
    with _unseen():
        return await _typed(question)


def _acceptable(password: Secret) -> Secret:
    if fault := passwords.fault(password):
        raise InvalidInput("password", fault)
    return password


@contextmanager
def _unseen() -> Iterator[None]:
    """Let the terminal not show what is typed. What was typed before is dropped, it was meant for something else."""
    before = termios.tcgetattr(sys.stdin)
    termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, [*before[:3], before[3] & ~termios.ECHO, *before[4:]])
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def _typed(question: str) -> Secret:
    """Return the line that is typed. Waits in the event loop, so that Ctrl-C ends it at once."""
    loop, answered = asyncio.get_running_loop(), asyncio.Event()
    sys.stderr.write(output.printable(question))
    sys.stderr.flush()
    loop.add_reader(sys.stdin, answered.set)
    try:
        await answered.wait()
        return Secret(sys.stdin.readline(_LONGEST_LINE).rstrip("\r\n"))
    finally:
        loop.remove_reader(sys.stdin)
        output.note("")
