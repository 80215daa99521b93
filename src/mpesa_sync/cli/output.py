"""What is printed and where: results on stdout, everything else on stderr; styled on a terminal only."""

from __future__ import annotations

import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
from rich.console import Console
from rich.text import Text

from mpesa_sync.secret import Secret

WIDTH: Final = 80
_HIDDEN: Final = "***"
_URL_USER: Final = re.compile(r"(\w+://)\S*@")
_PASSWORD_PARAMETER: Final = re.compile(r"((?:password|sslpassword)=)[^\s&'\"]*", re.IGNORECASE)
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class ResultLost(Exception):
    """The result cannot be written to stdout: its disk is full, or who reads it is gone."""


def result(text: str = "", style: str | None = None) -> None:
    """Print one line of the result on stdout.

    Arguments:
        text: the line; control characters in it, as a bar's name may hold, are made visible.
        style: of rich, such as `bold` or `red`; counts on a terminal only, and not under `NO_COLOR`.
    """
    with _or_lost():
        _write(sys.stdout, text, style)


def results(lines: Iterable[str]) -> None:
    """Print several plain lines of the result on stdout."""
    for line in lines:
        result(line)


def note(text: str, style: str | None = None) -> None:
    """Print one line for a person on stderr: progress, where this happens, what went wrong."""
    _write(sys.stderr, text, style)


def json_result(value: Any) -> None:
    """Print the result as one line of JSON on stdout, UTF-8 whatever the terminal speaks."""
    content = msgspec.json.encode(value) + b"\n"
    with _or_lost():
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


@contextmanager
def _or_lost() -> Iterator[None]:
    """Raise `ResultLost` where stdout takes no more; what it holds back still is dropped, or it would fail again."""
    try:
        yield
    except OSError as exc:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise ResultLost(f"the result could not be written ({exc.strerror}).") from exc


def _write(stream: TextIO, text: str, style: str | None) -> None:
    text = printable(text)
    if style is not None and stream.isatty():
        Console(file=stream, highlight=False).print(Text(text, style=style), soft_wrap=True)
    else:
        stream.write(text + "\n")
    stream.flush()


def printable(text: str) -> str:
    """Return `text` with characters that steer a terminal or draw nothing replaced by U+FFFD."""
    return "".join("\ufffd" if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def without_secrets(text: str, secrets: Sequence[Secret] = ()) -> str:
    """Return `text` without user names and passwords of URLs, and without the content of `secrets`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret.reveal(), _HIDDEN)
    return _PASSWORD_PARAMETER.sub(rf"\1{_HIDDEN}", _URL_USER.sub(rf"\1{_HIDDEN}@", text))


def labelled(label: str, text: str, *, indent: int = 11) -> list[str]:
    """Return `text` wrapped to `WIDTH` columns, with `label` to the left of its first line."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{label:<{indent}}",
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    ) or [label]


def table(rows: Sequence[Sequence[str]], *, indent: int = 2) -> list[str]:
    """Return rows of texts as lines with aligned columns; the last column is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " " * indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def shortened(text: str, length: int) -> str:
    """Return `text`, cut to `length` characters with an ellipsis where it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


def moment(at: datetime) -> str:
    """Return a time for people, to the minute, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def flag(value: bool | None) -> str:
    """Return a stored flag in the database's own words."""
    return "NULL" if value is None else str(value).lower()


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 bar`, `1,000 bars`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
