"""How the story is told: plain lines of at most 80 columns, coloured on a terminal only."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

WIDTH = 80
_INDENT = 4


class Narrator:
    """Prints the story, or keeps silent.

    Arguments:
        pace_s: seconds to wait after each step and each paragraph.
        silent: print nothing, for `--json`.
    """

    def __init__(self, *, pace_s: float = 0.0, silent: bool = False) -> None:
        self._pace_s = pace_s
        self._silent = silent
        self._console = Console(file=sys.stdout, highlight=False) if sys.stdout.isatty() else None
        self.tick, self.cross, self.arrow = _signs(sys.stdout.encoding)

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print one line as it is."""
        if self._silent:
            return
        if style and self._console:
            self._console.print(Text(text, style=style), soft_wrap=True)
        else:
            sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def say(self, text: str, *, indent: int = _INDENT, first: str = "", style: str | None = None) -> None:
        """Print a paragraph, wrapped; `first` stands before its first line."""
        margin = " " * (indent + len(first))
        for line in textwrap.wrap(
            text,
            WIDTH,
            initial_indent=" " * indent + first,
            subsequent_indent=margin,
            break_on_hyphens=False,
            break_long_words=False,
        ):
            self.line(line, style)

    def title(self, number: int, title: str, ids: Sequence[str]) -> None:
        """Print the head of a step: its number, title and the ids of the plan's items that it is about, if any."""
        head, labels = f"{number:2}. {title}", f"[{' '.join(ids)}]" if ids else ""
        self.line()
        if len(head) + len(labels) + 2 <= WIDTH:
            self.line((head + " " * (WIDTH - len(head) - len(labels)) + labels).rstrip(), "bold")
        else:
            self.line(head, "bold")
            self.line(" " * (WIDTH - len(labels)) + labels, "bold")

    def change(self, name: str, before: Mapping[str, object], after: Mapping[str, object]) -> None:
        """Print both fields of a venue, before and after."""
        self.line(f"    {name:<38}{'before':<9}after", "dim")
        for field in {**before, **after}:
            old, new = (_flag(values.get(field, "-")) for values in (before, after))
            self.line(f"      {field:<36}{old:<9}{new}", "cyan" if old != new else None)

    def checked(self, claim: str) -> None:
        """Print a claim that was just found to be true."""
        self.say(claim, first=f"{self.tick} ", style="green")

    def failed(self, claim: str) -> None:
        """Print what turned out to be wrong."""
        self.say(claim, first=f"{self.cross} ", style="bold red")

    async def pause(self, factor: float = 1.0) -> None:
        """Give a person time to read."""
        if self._pace_s and not self._silent:
            await asyncio.sleep(self._pace_s * factor)


def _signs(encoding: str | None) -> tuple[str, str, str]:
    try:
        "✓✗→".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "ok", "!!", "->"
    return "✓", "✗", "→"


def _flag(value: object) -> str:
    return "NULL" if value is None else str(value).lower()
