"""`staff`: accounts made, listed and removed from the command line, and tokens for them (issue 3)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from mpesa_sync.db.pool import Database
from mpesa_sync.errors import SignInRefused
from mpesa_sync.identity import accounts, sessions
from mpesa_sync.identity.sign_in import sign_in
from mpesa_sync.secret import Secret
from tests.support.cli import Ended, cli, environment, on_terminal
from tests.support.observer import database_hash
from tests.support.people import PASSWORD, WRONG, add_account
from tests.support.venues import add_bar

HOME: Final = "197.248.1.7"
GENERATED: Final = ("--generate-password",)


def with_stdin(text: str, *arguments: str, url: str) -> Ended:
    """Run it as `cli` does, with `text` on its stdin."""
    command = [sys.executable, "-m", "mpesa_sync", *arguments]
    done = subprocess.run(command, env=environment(url), input=text.encode(), capture_output=True, timeout=30)
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def typed(*answers: str) -> str:
    """What a person types, a line each."""
    return "".join(f"{answer}\n" for answer in answers)


async def test_an_account_is_made_with_a_password_that_is_printed_once(
    database_url: str, db: Database, sql: Any
) -> None:
    """Issue 3: stdout holds the password and nothing else; with it the person can sign in."""
    bar = await add_bar(sql)
    ended = cli("staff", "add", "asha", "--bar", bar.hex, "--role", "owner", *GENERATED, url=database_url)
    assert ended.code == 0, ended.err
    password = ended.out.removesuffix("\n")
    assert re.fullmatch(r"[\w-]{20}", password)
    assert password not in ended.err
    assert f"asha is owner of {bar.hex}" in ended.err
    begun = await sign_in(db, "asha", Secret(password), HOME)
    assert await sql.fetchval("select mpesa_sync.role_of_v1($1, $2)", begun.person.id, bar) == "owner"


async def test_json_tells_what_was_made(database_url: str, sql: Any) -> None:
    """Spec 6: one object on stdout."""
    bar = await add_bar(sql)
    made = cli("staff", "add", "asha", "--bar", str(bar), *GENERATED, "--json", url=database_url).json
    assert (made["name"], made["operator"], made["created"]) == ("asha", False, True)
    assert made["roles"] == {str(bar): "staff"}
    assert len(made["password"]) == 20
    again = cli("staff", "add", "Asha", "--bar", str(bar), "--role", "manager", "--json", url=database_url).json
    assert again == {
        "id": made["id"],
        "name": "asha",
        "operator": False,
        "created": False,
        "roles": {str(bar): "manager"},
    }


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nmore\n"], ids=repr)
async def test_a_password_is_read_from_stdin(end: str, database_url: str, db: Database, tmp_path: Path) -> None:
    """Issue 3: its first line; the password is printed nowhere."""
    ended = with_stdin(PASSWORD.reveal() + end, "staff", "add", "asha", "--password-stdin", url=database_url)
    assert ended.code == 0, ended.err
    assert PASSWORD.reveal() not in ended.out + ended.err
    assert (await sign_in(db, "asha", PASSWORD, HOME)).person.name == "asha"
    assert "belongs to no bar yet" in ended.out


@pytest.mark.parametrize("text", ["", "short\n", "x" * 201 + "\n", "long\x07enough\n"], ids=ascii)
async def test_a_password_from_stdin_meets_the_rules(text: str, database_url: str, sql: Any) -> None:
    """Issue 3: 64, the rule and not the password in the message, and nothing made."""
    ended = with_stdin(text, "staff", "add", "asha", "--password-stdin", url=database_url)
    assert (ended.code, ended.out) == (64, "")
    assert "password: " in ended.err
    assert await sql.fetchval("select count(*) from mpesa_sync.accounts") == 0


async def test_a_password_is_asked_for_twice_and_not_shown(database_url: str, db: Database) -> None:
    """Issue 3: on a terminal."""
    answers = typed(PASSWORD.reveal(), PASSWORD.reveal())
    ended = on_terminal(["staff", "add", "asha"], environment(database_url), answers, asked="Password for asha")
    assert ended.code == 0, ended.out
    assert "The same again:" in ended.out
    assert PASSWORD.reveal() not in ended.out
    assert (await sign_in(db, "asha", PASSWORD, HOME)).person.name == "asha"


async def test_two_different_passwords_make_no_account(database_url: str, sql: Any) -> None:
    """Issue 3: a slip of the finger locks nobody out."""
    answers = typed(PASSWORD.reveal(), WRONG.reveal())
    ended = on_terminal(["staff", "add", "asha"], environment(database_url), answers, asked="Password for asha")
    assert ended.code == 64
    assert "not the same both times" in ended.out
    assert await sql.fetchval("select count(*) from mpesa_sync.accounts") == 0


async def test_ctrl_c_at_the_question_ends_it(database_url: str, sql: Any) -> None:
    """Spec 6: 130, nothing made, and the terminal shows again what is typed."""
    ended = on_terminal(["staff", "add", "asha"], environment(database_url), "\x03", asked="Password for asha")
    assert ended.code == 130, ended.out
    assert await sql.fetchval("select count(*) from mpesa_sync.accounts") == 0


WRONG_USAGE: Final = [
    pytest.param(["x"], "NAME", id="a short name"),
    pytest.param(["two words"], "NAME", id="a name with a space"),
    pytest.param(["asha"], "--password-stdin to send it, or --generate-password", id="no password"),
    pytest.param(["asha", "--password-stdin", *GENERATED], "exclude each other", id="two passwords"),
    pytest.param(["asha", "--new-password", "--password-stdin"], "exclude each other", id="asked and sent"),
    pytest.param(["asha", "--operator", "--bar", "x", *GENERATED], "--operator excludes", id="an operator's bar"),
    pytest.param(["asha", "--operator", "--role", "owner", *GENERATED], "--operator excludes", id="an operator's role"),
    pytest.param(["asha", "--role", "owner", *GENERATED], "--bar", id="a role without a bar"),
    pytest.param(["asha", "--role", "admin", *GENERATED], "--role", id="an unknown role"),
    pytest.param(["asha", "--bar", "", *GENERATED], "BAR", id="an empty bar"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG_USAGE)
async def test_wrong_usage_of_add_is_64_and_makes_nothing(
    arguments: list[str], words: str, database_url: str, sql: Any
) -> None:
    """Spec 6: says what to give."""
    before = await database_hash(sql)
    ended = cli("staff", "add", *arguments, url=database_url)
    assert (ended.code, ended.out) == (64, ""), ended.err
    assert words in ended.err
    assert await database_hash(sql) == before


async def test_an_unknown_bar_is_1_and_makes_nothing(database_url: str, sql: Any) -> None:
    """Spec 6: all bars or nothing."""
    bar = await add_bar(sql)
    ended = cli("staff", "add", "asha", "--bar", bar.hex, "--bar", "nowhere", *GENERATED, url=database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "no bar with the id or slug 'nowhere'" in ended.err
    assert await sql.fetchval("select count(*) from mpesa_sync.accounts") == 0


async def test_an_account_that_is_there_is_let_into_more_bars(database_url: str, db: Database, sql: Any) -> None:
    """Issue 3: no password is asked for; a role changes only where one is given; sessions go on."""
    bar, other = await add_bar(sql), await add_bar(sql)
    account = await add_account(db, owner=bar)
    begun = await sessions.create(db, account)
    kept = cli("staff", "add", "asha", "--bar", str(bar), "--bar", str(other), url=database_url)
    assert (kept.code, kept.out) == (0, f"Asha is owner of {bar}.\nAsha is staff of {other}.\n")
    changed = cli("staff", "add", "ASHA", "--bar", str(bar), "--role", "staff", url=database_url)
    assert (changed.code, changed.out) == (0, f"Asha is staff of {bar}.\n")
    assert await sessions.find(db, begun.token) is not None


@pytest.mark.parametrize("kind", ["nothing to do", "becomes operator", "operator gets bar"])
async def test_nothing_else_is_done_to_an_account_that_is_there(
    kind: str, database_url: str, db: Database, sql: Any
) -> None:
    """Issue 3: 1, and says why; `add` makes nobody an operator."""
    bar = await add_bar(sql)
    await add_account(db, is_operator=kind == "operator gets bar")
    arguments = {
        "nothing to do": [],
        "becomes operator": ["--operator", "--generate-password"],
        "operator gets bar": ["--bar", str(bar), "--generate-password"],
    }[kind]
    before = await database_hash(sql)
    ended = cli("staff", "add", "asha", *arguments, url=database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "already" in ended.err
    assert await database_hash(sql) == before


async def test_the_list_names_people_and_bars(database_url: str, db: Database, sql: Any) -> None:
    """Issue 3: by slug; a bar that is gone is said to be; nothing is changed, and no hash shown."""
    assert "mpesa-sync staff add" in cli("staff", "list", url=database_url).out
    bar, gone = await add_bar(sql), await add_bar(sql)
    await sql.execute("update public.bars set slug = 'mama-njeri' where id = $1", bar)
    account = await add_account(db, owner=bar, staff=gone)
    await add_account(db, "juma", is_operator=True)
    await sql.execute("delete from public.bars where id = $1", gone)
    before = await database_hash(sql)
    ended = cli("staff", "list", url=database_url)
    lines = [line.split("  ") for line in ended.out.splitlines()]
    assert (ended.code, [line[0] for line in lines]) == (0, ["NAME", "Asha", "juma"])
    assert lines[1][-1] == f"mama-njeri (owner), {gone} (staff, gone)"
    assert lines[2][-1] == "operator"
    found = cli("staff", "list", "--json", url=database_url)
    assert [(one["name"], one["operator"]) for one in found.json["accounts"]] == [("Asha", False), ("juma", True)]
    members = found.json["accounts"][0]["memberships"]
    assert members[0] == {"bar_id": str(bar), "slug": "mama-njeri", "role": "owner"}
    assert found.json["accounts"][0]["id"] == str(account.id)
    assert "argon2" not in ended.out + found.out
    assert await database_hash(sql) == before


async def test_a_platform_without_slugs_lists_ids(database_url: str, db: Database, sql: Any) -> None:
    """existing-platform.md: introspect, never assume a version."""
    bar = await add_bar(sql)
    await sql.execute("alter table public.bars drop column slug cascade")
    await add_account(db, owner=bar)
    assert f"{bar} (owner)" in cli("staff", "list", url=database_url).out


async def test_an_account_is_removed_with_its_sessions(database_url: str, db: Database, sql: Any) -> None:
    """Issue 3: nobody stays signed in."""
    account = await add_account(db, owner=await add_bar(sql))
    begun = await sessions.create(db, account)
    ended = cli("staff", "remove", "ASHA", "--yes", url=database_url)
    assert (ended.code, ended.out) == (0, "Removed the account Asha. Its sessions have ended.\n")
    assert await sessions.find(db, begun.token) is None
    with pytest.raises(SignInRefused):
        await sign_in(db, "asha", PASSWORD, HOME)
    assert cli("staff", "remove", "asha", "--yes", url=database_url).code == 1


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
async def test_one_bar_is_taken_away(gone: bool, database_url: str, db: Database, sql: Any) -> None:
    """Issue 3: the account stays; also where the bar itself is gone."""
    bar, other = await add_bar(sql), await add_bar(sql)
    account = await add_account(db, owner=bar, staff=other)
    begun = await sessions.create(db, account)
    if gone:
        await sql.execute("delete from public.bars where id = $1", bar)
    ended = cli("staff", "remove", "asha", "--bar", str(bar), "--yes", url=database_url)
    assert ended.code == 0, ended.err
    assert await sessions.find(db, begun.token) is None
    assert [one.bar_id for one in (await accounts.listed(db))[0].memberships] == [other]
    again = cli("staff", "remove", "asha", "--bar", str(bar), "--yes", url=database_url)
    assert (again.code, again.out) == (1, "")
    assert "no member" in again.err


async def test_removing_asks_first(database_url: str, sql: Any, db: Database) -> None:
    """Spec 6: only yes is a yes; without a terminal --yes must be given."""
    await add_account(db)
    before = await database_hash(sql)
    assert cli("staff", "remove", "asha", url=database_url).code == 64
    ended = on_terminal(["staff", "remove", "asha"], environment(database_url), "no\n", asked="Type yes")
    assert ended.code == 1
    assert "ends its sessions" in ended.out
    assert await database_hash(sql) == before


async def test_an_unknown_name_is_1(database_url: str) -> None:
    """Spec 6: and says where the names are."""
    for command in (["token", "nobody"], ["remove", "nobody", "--yes"]):
        ended = cli("staff", *command, url=database_url, MPESA_SYNC_JWT_SECRET="x" * 32)
        assert (ended.code, ended.out) == (1, "")
        assert "mpesa-sync staff list" in ended.err


@pytest.mark.parametrize(
    "command", [["add", "asha", "--generate-password"], ["list"], ["remove", "asha"], ["token", "asha"]], ids=" ".join
)
async def test_it_needs_db_init(command: list[str], platform_url: str) -> None:
    """Spec 6: says what to run first."""
    ended = cli("staff", *command, url=platform_url, MPESA_SYNC_JWT_SECRET="x" * 32)
    assert (ended.code, ended.out) == (1, "")
    assert "mpesa-sync db init" in ended.err
