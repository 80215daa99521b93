"""Options and help texts that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="The database to work on, instead of MPESA_SYNC_DATABASE_URL. Other users of this machine can see "
        "the command line: better no password in it.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.", show_default=False)]
Bar = Annotated[str, typer.Argument(metavar="BAR", help="The bar's id or slug.", show_default=False)]


class Authority(StrEnum):
    """What may be taken for the truth although the platform seems to keep its secrets elsewhere."""

    CREDENTIALS = "credentials"


def group(help_text: str) -> typer.Typer:
    """Return an empty command group, to be filled and added to the app."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def examples(*lines: tuple[str, str]) -> str:
    """Return the end of a command's help: examples, each a command line and what it does."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}\n      {meaning}" for command, meaning in lines)


def names(values: Sequence[str]) -> str:
    """Return several names as one text: `bars and mpesa_credentials`."""
    return " and ".join(filter(None, (", ".join(values[:-1]), *values[-1:])))
