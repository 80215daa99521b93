"""Asking a person, on a terminal only, in a way that Ctrl-C ends at once."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from mpesa_sync.cli import output
from mpesa_sync.errors import ConfigurationError

YES: Final = "--yes"
"""The option that answers every question."""


async def agreed(consequence: str, question: str) -> bool:
    """Ask on stderr and return whether the answer was yes; anything else, also the end of input, is no.

    Arguments:
        consequence: what a yes will do, as a sentence.
        question: the question itself.
    Raises:
        ConfigurationError: there is no terminal to ask on (spec 6: exit code 64).
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError([f"there is no terminal to ask on: give {YES} to go on without asking"])
    output.note(consequence)
    return await _answer(f"{question} Type yes: ") == "yes"


async def asked(question: str) -> bool:
    """Write `question` to stderr and return whether the answer is y or yes; the end of the input is a no."""
    return await _answer(question) in ("y", "yes")


async def _answer(question: str) -> str:
    """Return what is typed. Waits in the event loop: Ctrl-C would not end a blocking read while the loop runs."""
    sys.stderr.write(question)
    sys.stderr.flush()
    loop, answered = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, answered.set)
    try:
        await answered.wait()
    finally:
        loop.remove_reader(sys.stdin)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        output.note("")
    return answer.strip().lower()
