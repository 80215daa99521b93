"""`staff list`: who has an account, and where. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import AsJson, DatabaseUrl
from mpesa_sync.cli.session import on_database, require_installed
from mpesa_sync.db.accounts import Granted
from mpesa_sync.identity import accounts
from mpesa_sync.identity.accounts import Listed


class Member(msgspec.Struct, frozen=True):
    """A membership in the JSON of `staff list`. `slug` is null where the bar has none or is gone."""

    bar_id: UUID
    slug: str | None
    role: str


class Staff(msgspec.Struct, frozen=True):
    """An account in the JSON of `staff list`."""

    id: UUID
    name: str
    operator: bool
    created_at: datetime
    memberships: list[Member]


class Everybody(msgspec.Struct, frozen=True):
    """The object of `staff list --json`."""

    accounts: list[Staff]


def list_(context: typer.Context, as_json: AsJson = False, database_url: DatabaseUrl = None) -> int:
    """List the accounts with the bars they belong to. Changes nothing.

    Members that stand in the platform's own user_bars are not among them.
    """

    async def work(opened: Opened) -> ExitCode:
        async with opened.database.reading() as connection:
            await require_installed(connection)
        found = await accounts.listed(opened.database)
        if as_json:
            output.json_result(Everybody([_as_json(one) for one in found]))
        else:
            output.results(_lines(found))
        return ExitCode.OK

    return on_database(context, database_url, work)


def _as_json(one: Listed) -> Staff:
    members = [Member(granted.bar_id, granted.slug, granted.role) for granted in one.memberships]
    account = one.account
    return Staff(account.id, account.name, account.is_operator, account.created_at, members)


def _lines(found: list[Listed]) -> Iterator[str]:
    if not found:
        yield "There is no account yet: 'mpesa-sync staff add NAME' makes one."
        return
    rows = [("NAME", "ADDED", "BELONGS TO")]
    for one in found:
        bars = ", ".join(map(_in_words, one.memberships)) or ("operator" if one.account.is_operator else "no bar")
        rows.append((one.account.name, output.moment(one.account.created_at), bars))
    yield from output.table(rows, indent=0)


def _in_words(granted: Granted) -> str:
    gone = "" if granted.bar_exists else ", gone"
    return f"{granted.slug or granted.bar_id} ({granted.role}{gone})"
