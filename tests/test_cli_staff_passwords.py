"""`staff add` on an account that is there: a forgotten password is replaced from the command line (issue 3)."""

from __future__ import annotations

from typing import Any

import pytest

from mpesa_sync.db.pool import Database
from mpesa_sync.errors import SignInRefused
from mpesa_sync.identity import accounts, sessions
from mpesa_sync.identity.sign_in import sign_in
from mpesa_sync.secret import Secret
from tests.support.cli import cli, environment, on_terminal
from tests.support.observer import database_hash
from tests.support.people import PASSWORD, WRONG, add_account
from tests.support.venues import add_bar
from tests.test_cli_staff import GENERATED, HOME, typed, with_stdin


@pytest.mark.parametrize("way", ["generated", "stdin", "asked", "operator"])
async def test_a_forgotten_password_is_replaced_and_sessions_end(
    way: str, database_url: str, db: Database, sql: Any
) -> None:
    """Issue 3: it is said; the old password and every session are worth nothing, memberships stay as they are."""
    bar = await add_bar(sql)
    bars: dict[str, Any] = {} if way == "operator" else {"owner": bar}
    account = await add_account(db, is_operator=way == "operator", **bars)
    begun = await sessions.create(db, account)
    new = WRONG
    if way == "stdin":
        ended = with_stdin(typed(new.reveal()), "staff", "add", "asha", "--password-stdin", url=database_url)
    elif way == "asked":
        arguments = ["staff", "add", "asha", "--new-password"]
        answers = typed(new.reveal(), new.reveal())
        ended = on_terminal(arguments, environment(database_url), answers, asked="Password for asha")
    else:
        ended = cli("staff", "add", "asha", *GENERATED, url=database_url)
        new = Secret(ended.out.removesuffix("\n"))
    assert ended.code == 0, ended.err
    assert "Asha was there already and has a new password. Its sessions have ended." in ended.out + ended.err
    assert await sessions.find(db, begun.token) is None
    with pytest.raises(SignInRefused):
        await sign_in(db, "asha", PASSWORD, HOME)
    assert (await sign_in(db, "asha", new, HOME)).person.id == account.id
    assert [one.role for one in (await accounts.listed(db))[0].memberships] == list(bars)


async def test_a_new_password_and_a_bar_in_one(database_url: str, db: Database, sql: Any) -> None:
    """Issue 3, spec 6: one object that tells both."""
    bar = await add_bar(sql)
    account = await add_account(db)
    made = cli("staff", "add", "asha", "--bar", str(bar), *GENERATED, "--json", url=database_url).json
    assert (made["created"], made["password_changed"], made["roles"]) == (False, True, {str(bar): "staff"})
    assert (await sign_in(db, "asha", Secret(made["password"]), HOME)).person.id == account.id


async def test_a_new_password_of_nobody_makes_no_account(database_url: str, sql: Any) -> None:
    """Issue 3: a slip in the name makes no second person."""
    ended = cli("staff", "add", "ahsa", "--new-password", url=database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "There is no account 'ahsa'" in ended.err
    assert await sql.fetchval("select count(*) from mpesa_sync.accounts") == 0


async def test_a_password_that_breaks_the_rules_replaces_none(database_url: str, db: Database, sql: Any) -> None:
    """Issue 3: 64, and the bar is not given either."""
    bar = await add_bar(sql)
    await add_account(db)
    before = await database_hash(sql)
    ended = with_stdin("short\n", "staff", "add", "asha", "--bar", str(bar), "--password-stdin", url=database_url)
    assert (ended.code, ended.out) == (64, "")
    assert await database_hash(sql) == before
