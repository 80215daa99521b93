"""`check`: exit codes, the exact JSON, and the proof that it cannot write (spec 6, R2.1)."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync.cli.check import Findings
from mpesa_sync.db.detection import DriftedBar, FleetSummary
from tests.support.cli import as_role, cli, environment, on_terminal
from tests.support.observer import database_hash
from tests.support.venues import add_bar

EMPTY = {"bars": 0, "consistent": 0, "drift": {"hidden": 0, "exposed": 0}, "warnings": {}, "records": []}


async def test_a_fleet_in_sync_is_0(database_url: str, sql: Any) -> None:
    """Spec 6: no drift, exit code 0; the result is on stdout, the identity on stderr."""
    await add_bar(sql, mpesa_enabled=True, sandbox=True)
    await add_bar(sql, mpesa_enabled=False, production=False)
    ended = cli("check", url=database_url)
    assert (ended.code, ended.out) == (0, "2 bars: in sync.\n")
    assert ended.err.startswith("Database: ")


async def test_no_bars_is_not_called_in_sync(database_url: str) -> None:
    """Spec 6: "0 bars, in sync" is what the wrong place would look like."""
    ended = cli("check", url=database_url)
    assert ended.code == 0
    assert "There are no bars in this database" in ended.out
    assert "in sync" not in ended.out
    assert cli("check", "--json", url=database_url).json == EMPTY


async def test_json_is_exactly_the_object_of_the_contract(database_url: str, sql: Any) -> None:
    """Spec 6: drifted bars only are listed, bars with only warnings are counted."""
    hidden = await add_bar(sql, mpesa_enabled=None, sandbox=True, production=True)
    exposed = await add_bar(sql, mpesa_enabled=True, production=None)
    await add_bar(sql, mpesa_enabled=None)
    await add_bar(sql, mpesa_enabled=True, sandbox=True, production=True)
    await add_bar(sql, mpesa_enabled=True, production=True)
    ended = cli("check", "--json", url=database_url)
    assert ended.code == 2
    found = ended.json
    records = {record["bar_id"]: record for record in found.pop("records")}
    assert found == {
        "bars": 5,
        "consistent": 3,
        "drift": {"hidden": 1, "exposed": 1},
        "warnings": {"null_flag": 1, "two_active": 2, "environment_differs": 3},
    }
    assert records == {
        str(hidden): {
            "bar_id": str(hidden),
            "slug": hidden.hex,
            "direction": "hidden",
            "authority": True,
            "shown": False,
            "warnings": ["two_active", "environment_differs"],
        },
        str(exposed): {
            "bar_id": str(exposed),
            "slug": exposed.hex,
            "direction": "exposed",
            "authority": False,
            "shown": True,
            "warnings": [],
        },
    }


async def test_warnings_change_no_exit_code(database_url: str, sql: Any) -> None:
    """Spec 6: only drift is 2."""
    await add_bar(sql, mpesa_enabled=True, sandbox=True, production=True)
    ended = cli("check", url=database_url)
    assert ended.code == 0
    assert "two_active" in ended.out


async def test_a_person_reads_what_has_drifted(database_url: str, sql: Any) -> None:
    """Spec 6: aligned text, at most 80 columns, no escape sequences where it is no terminal."""
    hidden = await add_bar(sql, mpesa_enabled=False, production=True)
    await add_bar(sql, mpesa_enabled=True, production=True)
    ended = cli("check", url=database_url)
    assert ended.code == 2
    assert ended.out.startswith("2 bars: 1 in sync, 1 drifted.\n")
    assert f"  hidden  {hidden}  " in ended.out
    assert "\x1b" not in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


async def test_a_large_drift_is_counted_and_cut_for_people_but_not_in_json(database_url: str, sql: Any) -> None:
    """Spec 6: a person gets one readable list, a program gets all of it."""
    for _ in range(53):
        await add_bar(sql, mpesa_enabled=True)
    text, found = cli("check", url=database_url), cli("check", "--json", url=database_url)
    assert "and 3 more" in text.out
    assert text.out.count("exposed  ") == 51
    assert len(found.json["records"]) == 53


@pytest.mark.parametrize("by", ["id", "slug", "upper-case id"])
async def test_one_bar_is_checked_alone(by: str, database_url: str, sql: Any) -> None:
    """Spec 6: check --bar; other bars' drift does not count."""
    drifted = await add_bar(sql, mpesa_enabled=True)
    fine = await add_bar(sql, mpesa_enabled=None)

    def named(bar: UUID) -> str:
        return {"id": str(bar), "slug": bar.hex, "upper-case id": str(bar).upper()}[by]

    first = cli("check", "--bar", named(drifted), "--json", url=database_url)
    assert first.code == 2
    assert first.json["drift"] == {"hidden": 0, "exposed": 1}
    assert [record["bar_id"] for record in first.json["records"]] == [str(drifted)]
    second = cli("check", "--bar", named(fine), "--json", url=database_url)
    assert second.code == 0
    assert second.json == {**EMPTY, "bars": 1, "consistent": 1, "warnings": {"null_flag": 1}}


async def test_an_id_wins_over_a_slug(database_url: str, sql: Any) -> None:
    """Spec 6: a slug that looks like another bar's id never hides that bar."""
    drifted = await add_bar(sql, mpesa_enabled=True)
    other = await add_bar(sql)
    await sql.execute("update bars set slug = $2 where id = $1", other, str(drifted))
    assert cli("check", "--bar", str(drifted), url=database_url).code == 2


@pytest.mark.parametrize(
    ("bar", "code"),
    [("nowhere", 1), (str(uuid4()), 1), ("", 64), ("a\u202eb", 64)],
    ids=["slug", "id", "empty", "bidi"],
)
async def test_a_bar_that_is_not_there_is_never_in_sync(bar: str, code: int, database_url: str) -> None:
    """Spec 6: an unknown bar is an error, and what cannot be a bar's name is wrong usage."""
    ended = cli("check", "--bar", bar, url=database_url)
    assert (ended.code, ended.out) == (code, "")


async def test_it_needs_nothing_of_ours_installed(platform_url: str) -> None:
    """Spec 6: check needs no `db init`, and leaves nothing behind."""
    connection = await asyncpg.connect(platform_url)
    try:
        await add_bar(connection, mpesa_enabled=True, sandbox=True)
        assert cli("check", url=platform_url).code == 0
        assert cli("check", "--json", url=platform_url).json["warnings"] == {"sandbox_active": 1}
        assert await connection.fetchval("select to_regnamespace('mpesa_sync') is null")
    finally:
        await connection.close()


async def test_missing_tables_are_named(empty_database_url: str) -> None:
    """Spec 6: the wrong place is an error that names what it lacks, never 0 bars in sync."""
    ended = cli("check", "--json", url=empty_database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "bars is missing" in ended.err
    assert "mpesa_credentials is missing" in ended.err


async def test_a_missing_column_is_named(database_url: str, sql: Any) -> None:
    """existing-platform.md: code deployed before its schema, and nothing that names the column."""
    await sql.execute("alter table bars rename column mpesa_enabled to mpesa_on")
    ended = cli("check", url=database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "bars.mpesa_enabled is missing" in ended.err


async def test_nothing_is_changed(database_url: str, sql: Any) -> None:
    """Spec 6: read-only, proved by a digest of every table, row versions included."""
    await add_bar(sql, mpesa_enabled=True)
    before = await database_hash(sql)
    assert before
    assert cli("check", url=database_url).code == 2
    assert cli("check", "--json", url=database_url).code == 2
    assert await database_hash(sql) == before


TRAP = """
create type env as enum ('sandbox', 'production');
alter table bars drop constraint bars_mpesa_environment_check, alter mpesa_environment drop default,
  alter mpesa_environment type env using mpesa_environment::text::env;
create table trap (sprung boolean);
create function spring(env) returns text language plpgsql volatile as $$
begin insert into trap values (true); return enum_out($1)::text; end $$;
create cast (env as text) with function spring(env);
"""
"""From now on whoever reads an environment as a text writes a row."""


async def test_the_database_itself_forbids_it_to_write(database_url: str, sql: Any) -> None:
    """Spec 6: provably unable to write: READ ONLY, so even a write that hides inside a read is refused."""
    bar = await add_bar(sql, mpesa_enabled=True)
    await sql.execute(TRAP)
    for arguments in (["check"], ["check", "--bar", str(bar)], ["explain", str(bar)]):
        ended = cli(*arguments, url=database_url)
        assert (ended.code, ended.out) == (1, ""), arguments
        assert "SQLSTATE 25006" in ended.err
    assert await sql.fetchval("select count(*) from trap") == 0
    await sql.fetch("select mpesa_environment::text from bars")
    assert await sql.fetchval("select count(*) from trap") == 1, "the trap is none"


async def _reader(connection: Any, *, bypass: bool = True) -> str:
    """Make a role that may read the platform's two tables and nothing else; return its name."""
    name = f"reader_{uuid4().hex}"
    await connection.execute(f"create role {name} login password 'read' {'bypassrls' if bypass else ''}")
    await connection.execute(f"grant select on bars, mpesa_credentials to {name}")
    return name


async def test_a_role_that_may_only_read_is_enough(database_url: str, sql: Any) -> None:
    """Spec 6: provably unable to write, also where the schema mpesa_sync is installed and not for its eyes."""
    await add_bar(sql, mpesa_enabled=True)
    url = as_role(database_url, await _reader(sql), "read")
    ended = cli("check", url=url)
    assert ended.code == 2, ended.err
    assert cli("explain", (await sql.fetchval("select slug from bars")), url=url).code == 0


async def test_a_role_that_may_not_read_is_told_so(database_url: str, sql: Any) -> None:
    """faults.md 4: no rights is an error in plain words, never an empty fleet."""
    name = await _reader(sql)
    await sql.execute(f"revoke select on bars from {name}")
    ended = cli("check", url=as_role(database_url, name, "read"))
    assert (ended.code, ended.out) == (1, "")
    assert "may not do this" in ended.err


async def test_hidden_rows_are_an_error_and_not_an_empty_fleet(database_url: str, sql: Any) -> None:
    """faults.md 4: a policy that hides rows is an error; "0 bars" would be a lie."""
    await add_bar(sql, mpesa_enabled=True)
    await sql.execute("alter table bars enable row level security")
    ended = cli("check", "--json", url=as_role(database_url, await _reader(sql, bypass=False), "read"))
    assert (ended.code, ended.out) == (1, "")
    assert "row level security" in ended.err


async def test_colours_are_for_terminals_and_not_under_no_color(database_url: str, sql: Any) -> None:
    """Spec 6: NO_COLOR; rich on a terminal only."""
    await add_bar(sql, mpesa_enabled=True)
    assert "\x1b[" not in cli("check", url=database_url).out
    assert "\x1b[31m" in on_terminal(["check"], environment(database_url)).out
    plain = on_terminal(["check"], environment(database_url, NO_COLOR="1")).out
    assert "drifted" in plain
    assert "\x1b[31m" not in plain


async def test_a_hostile_slug_cannot_steer_the_terminal(database_url: str, sql: Any) -> None:
    """faults.md: what tables hold is data, also on an operator's screen."""
    bar = await add_bar(sql, mpesa_enabled=True)
    await sql.execute("update bars set slug = $2 where id = $1", bar, "\x1b[2Jgone")
    ended = cli("check", url=database_url)
    assert "\x1b" not in ended.out
    assert "gone" in ended.out


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1001, 2500])
def test_records_of_any_number_are_one_array_in_their_order(number: int) -> None:
    """Spec 6: they are encoded a thousand at a time, and asked for anew where the database was lost meanwhile."""
    findings = Findings(FleetSummary(number, 0, number))
    bars = [DriftedBar(UUID(int=place), None, True, False, (), None) for place in range(number)]
    for _ in range(2):
        findings.clear()
        for bar in bars:
            findings.add(bar, as_json=True)
    assert [record["bar_id"] for record in json.loads(bytes(findings.records()))] == [str(bar.bar_id) for bar in bars]
