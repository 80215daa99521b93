"""`alerts test`: a message over every channel of the operators, now, and what became of each."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import AsJson, DatabaseUrl, examples
from mpesa_sync.cli.session import on_database, require_installed
from mpesa_sync.db import deliveries
from mpesa_sync.settings import ALERT_URLS, Settings
from mpesa_sync.sync import alert_words

_TITLE: Final = "mpesa-sync: a test message"
_BODY: Final = "If you read this, alerts reach you over this channel. Nothing is wrong, and nothing has to be done."


class Tested(msgspec.Struct, frozen=True):
    """One channel in the JSON of `alerts test`. `fault`: a word, null where the message was taken."""

    channel: str
    delivered: bool
    fault: str | None


class Tests(msgspec.Struct, frozen=True):
    """The object of `alerts test --json`."""

    channels: list[Tested]


def add_to(alerts: typer.Typer) -> None:
    """Add `test` to the group."""
    alerts.command("test", epilog=examples(("mpesa-sync alerts test", "Do alerts reach us?")))(send_test)


def send_test(context: typer.Context, as_json: AsJson = False, database_url: DatabaseUrl = None) -> int:
    """Send a message over every channel of MPESA_SYNC_ALERT_URLS now, and say what became of each.

    Waits at most 15 seconds. Exit code 1 where one failed, or none is set. Raises no alert and stores nothing.
    """
    urls = Settings.load().alert_urls

    async def work(opened: Opened) -> ExitCode:
        from mpesa_sync.jobs import channels  # here: other commands do not wait for what sends

        async with opened.database.reading() as connection:
            await require_installed(connection)
            salt = await deliveries.salt(connection)
        found = channels.channels_of(urls, salt)
        faults = await asyncio.gather(*(channels.send(url, _TITLE, _BODY) for url in found.values()))
        tested = [Tested(name, fault is None, fault) for name, fault in zip(found, faults, strict=True)]
        if as_json:
            output.json_result(Tests(tested))
        else:
            _print(tested)
        if not tested:
            output.note(f"No channel is set: {ALERT_URLS} is empty, so nobody would hear of an alert.", "red")
        return ExitCode.OK if tested and all(one.delivered for one in tested) else ExitCode.ERROR

    return on_database(context, database_url, work)


def _print(tested: list[Tested]) -> None:
    for one in tested:
        said = "delivered" if one.fault is None else f"{one.fault}: {alert_words.cause_of(one.fault)}"
        output.result(f"{one.channel}  {said}", "green" if one.delivered else "red")
