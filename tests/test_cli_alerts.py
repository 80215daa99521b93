"""`alerts`: listed, shown, acknowledged, resolved; channels tested, and those of owners set without being shown."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from mpesa_sync.db.pool import Database, connect
from mpesa_sync.sync import alert_actions, venue_channels
from mpesa_sync.sync.alert_kinds import AlertKind
from tests.support.alerts import raised, told
from tests.support.channels import endpoints
from tests.support.cli import Ended, cli, environment, on_terminal
from tests.support.observer import database_hash
from tests.support.venues import KEY, add_bar
from tests.test_cli_staff import typed

TOKEN: Final = f"canary{uuid4().hex}"
"""Stands in the address of every channel here, and must be printed nowhere."""


async def run(*arguments: str, url: str, cwd: Path | None = None, **more: str) -> Ended:
    """Run `alerts` without stopping the test's own event loop."""
    return await asyncio.to_thread(lambda: cli("alerts", *arguments, url=url, cwd=cwd, **more))


async def test_the_list_names_what_is_open(database_url: str, db: Database, sql: Any, tmp_path: Path) -> None:
    """Spec 6: results on stdout, 0 whatever is open; --state, --bar and --limit choose."""
    bar, other = await add_bar(sql), await add_bar(sql)
    await sql.execute("update public.bars set slug = 'mama-njeri' where id = $1", bar)
    first = await raised(db, bar, minute=1, count=1_234)
    second = await raised(db, other, AlertKind.DATABASE_REFUSED, minute=2)
    gone = await raised(db, None, AlertKind.CHANNEL_FAILING, minute=3)
    await alert_actions.resolve(db, gone, actor="operator:asha")
    ended = await run("list", url=database_url, cwd=tmp_path)
    assert (ended.code, len(ended.out.splitlines())) == (0, 3), ended.err
    header, newest, older = ended.out.splitlines()
    assert re.split(r"\s{2,}", header) == ["ID", "STATE", "LAST SEEN", "COUNT", "VENUE", "WHAT"]
    assert newest.startswith(str(second)[:8])
    assert re.split(r"\s{2,}", older) == [
        str(first)[:8],
        "firing",
        "2026-11-24 12:01 UTC",
        "1,234",
        "mama-njeri",
        "A change could not be saved",
    ]
    chosen = await run("list", "--bar", "mama-njeri", "--state", "resolved", url=database_url, cwd=tmp_path)
    assert (chosen.code, chosen.out) == (0, "There is no such alert.\n")
    limited = await run("list", "--limit", "1", "--json", url=database_url, cwd=tmp_path)
    assert [one["id"] for one in limited.json["alerts"]] == [str(second)]
    assert (limited.json["more"], limited.json["spooled"]) == (True, 0)
    assert "There are more" in limited.err


async def test_alerts_that_wait_in_files_are_said_on_stderr(database_url: str, tmp_path: Path) -> None:
    """R5.2: "nothing is open" is not said alone while something waits for the database."""
    async with connect(database_url, alert_spool=tmp_path) as database:
        folder = database.alert_spool
    assert folder is not None
    folder.mkdir(parents=True)
    (folder / "one.taken").write_text("{}")
    ended = await run("list", url=database_url, cwd=tmp_path, MPESA_SYNC_ALERT_SPOOL=str(tmp_path))
    assert (ended.code, ended.out) == (0, "Nothing is open.\n")
    assert "1 more alert waits in files of this machine for the database." in ended.err
    unread = await run("list", "--json", url=database_url, cwd=tmp_path, MPESA_SYNC_ALERT_SPOOL="x" * 300)
    assert (unread.code, unread.json["spooled"]) == (0, None), unread.err
    assert "their folder cannot be read" in unread.err


async def test_show_tells_all_that_is_known(database_url: str, db: Database, sql: Any) -> None:
    """R5.2: times, count, episode, cause, SQLSTATE, what to do, runbook, and what became of each message."""
    bar = await add_bar(sql)
    alert = await raised(db, bar, count=3)
    await told(sql, alert, "slack-3fa2")
    await told(sql, alert, "mailto-77aa", state="pending", attempts=4, fault="timed_out", audience="owner", minute=2)
    ended = await run("show", str(alert)[:8], url=database_url, MPESA_SYNC_PUBLIC_URL="https://pay.example.ke")
    assert ended.code == 0, ended.err
    lines = {line[:11].strip(): line[11:] for line in ended.out.splitlines() if line[:1].strip()}
    assert lines["State"] == "firing, episode 1"
    assert lines["Seen"].startswith("3 times, since 2026-11-24 12:00 UTC")
    assert lines["SQLSTATE"] == "55P03"
    assert lines["What to do"] == "Look at the database, then switch again."
    assert lines["Runbook"] == "https://pay.example.ke/runbook/sync_failed"
    assert lines["Id"] == str(alert)
    assert "failed: It was not saved." in ended.out
    assert "away or busy" in lines["Cause"]
    rows = [re.split(r"\s{2,}", line) for line in ended.out.splitlines()[-3:]]
    assert rows[1][2:] == ["slack-3fa2", "delivered", "1", "-"]
    assert rows[2][2:] == ["mailto-77aa (owner)", "pending", "4", "timed_out"]
    found = (await run("show", alert.hex, "--json", url=database_url)).json
    assert (found["id"], found["bar"]["id"], found["count"]) == (str(alert), str(bar), 3)
    assert [one["channel"] for one in found["deliveries"]] == ["slack-3fa2", "mailto-77aa"]


async def test_acknowledging_and_resolving_say_who(database_url: str, db: Database, sql: Any) -> None:
    """R5.2: acknowledged it stays open; resolved it is closed, with the note, by the login of this machine."""
    alert = await raised(db, await add_bar(sql))
    short = str(alert)[:8].upper()
    taken = await run("ack", short, url=database_url)
    assert (taken.code, taken.out[:23]) == (0, f"Acknowledged: {str(alert)[:8]},"), taken.err
    assert await sql.fetchval("select state from mpesa_sync.alerts") == "acknowledged"
    closed = await run("resolve", short, "--note", "disk was full", "--json", url=database_url)
    assert (closed.json["state"], closed.json["note"]) == ("resolved", "disk was full")
    assert closed.json["resolved_by"].startswith("cli:")
    late = await run("ack", str(alert), url=database_url)
    assert (late.code, late.out) == (1, "")
    name = closed.json["resolved_by"].removeprefix("cli:")
    assert f"was resolved by {name} (command line) at" in late.err


async def test_an_id_must_mean_one_alert(database_url: str, db: Database, sql: Any) -> None:
    """Spec 6: 64 for what cannot be an id or means several, 1 for what is not there; nothing is changed."""
    ids = [UUID(int=(0xABCD1234 << 96) + number) for number in (1, 2)]
    for made in ids:
        alert = await raised(db, await add_bar(sql))
        await sql.execute("update mpesa_sync.alerts set id = $2 where id = $1", alert, made)
    before = await database_hash(sql)
    for text, code, said in (
        ("abcd1234", 64, "several alerts begin with abcd1234"),
        ("%%%%", 64, "must be the id of an alert"),
        ("abcd12345", 1, "no alert whose id begins with abcd1234-5"),
    ):
        ended = await run("resolve", text, url=database_url)
        assert (ended.code, ended.out) == (code, ""), ended.err
        assert said in ended.err
    assert await database_hash(sql) == before


async def test_a_message_is_tried_over_every_channel(database_url: str) -> None:
    """R5.2: what becomes of each is said, 1 where one failed or none is set; no address is shown, also with --debug."""
    async with endpoints() as service:
        service.does[f"{TOKEN}/bad"] = "broken"
        urls = [service.url(f"{TOKEN}/good").reveal(), service.url(f"{TOKEN}/bad").reveal()]
        ended = await run("test", url=database_url, MPESA_SYNC_ALERT_URLS=json.dumps(urls))
        (message,) = await service.has(f"{TOKEN}/good")
        assert "Nothing is wrong" in message["message"]
    assert ended.code == 1
    good, bad = (re.split(r"\s{2,}", line) for line in ended.out.splitlines())
    assert re.fullmatch("json-[0-9a-f]{4}", good[0])
    assert (good[1], bad[1]) == ("delivered", "refused: The channel answered no, or nobody listens at its address.")
    none = await run("test", url=database_url)
    assert (none.code, none.out) == (1, "")
    assert "No channel is set" in none.err
    wrong = f"nothing://{TOKEN}"
    unknown = await asyncio.to_thread(
        lambda: cli("--debug", "alerts", "test", url=database_url, MPESA_SYNC_ALERT_URLS=f'["{wrong}"]')
    )
    assert unknown.code == 64
    assert all(TOKEN not in text for found in (ended, none, unknown) for text in (found.out, found.err))


async def test_the_channel_of_an_owner_is_set_and_never_shown(database_url: str, db: Database, sql: Any) -> None:
    """R5.2: sealed from stdin or a hidden prompt; what is shown is a name, who set it and when."""
    bar = await add_bar(sql)
    key = {"MPESA_KMS_KEY": KEY.reveal()}
    shown = await asyncio.to_thread(
        lambda: on_terminal(
            ["alerts", "channel", bar.hex, "--set"],
            environment(database_url, **key),
            typed(f"json://127.0.0.1/{TOKEN}"),
            asked="not shown",
        )
    )
    assert shown.code == 0, shown.out
    found = await venue_channels.read(db, bar)
    assert found is not None
    assert re.fullmatch("json-[0-9a-f]{16}", found.channel)
    assert f"over {found.channel}, set by cli:" in shown.out
    listed = await run("channel", bar.hex, "--json", url=database_url)
    assert (listed.json["channel"], listed.json["bar_id"]) == (found.channel, str(bar))
    gone = await run("channel", bar.hex, "--remove", url=database_url)
    assert (gone.code, await venue_channels.read(db, bar)) == (0, None)
    assert "its owner hears nothing" in gone.out
    stored = str([tuple(row) for row in await sql.fetch("select * from mpesa_sync.venue_channels")])
    assert TOKEN not in shown.out + listed.out + listed.err + gone.out + gone.err + stored


async def test_a_channel_that_cannot_be_used_is_refused(database_url: str, db: Database, sql: Any) -> None:
    """K: nothing is stored, and what was sent is not repeated: no address, a local program, no key, both options."""
    bar = await add_bar(sql)
    before = await database_hash(sql)
    key = {"MPESA_KMS_KEY": KEY.reveal()}
    for arguments, text, more, code in (
        (["--set"], f"syslog://{TOKEN}", key, 64),
        (["--set"], f"json://127.0.0.1/{TOKEN}", {}, 1),
        (["--set", "--remove"], "", key, 64),
    ):
        ended = await asyncio.to_thread(
            _with_stdin, text, ["alerts", "channel", bar.hex, *arguments], database_url, more
        )
        assert (ended.code, ended.out) == (code, ""), (arguments, ended.err)
        assert TOKEN not in ended.err
    assert await database_hash(sql) == before


async def test_an_address_is_not_typed_where_it_would_be_seen(database_url: str, db: Database, sql: Any) -> None:
    """K: stdin is a terminal and stderr is not: nothing is asked for, so nothing typed is echoed."""
    bar = await add_bar(sql)
    main, side = pty.openpty()
    os.write(main, f"json://127.0.0.1/{TOKEN}\n".encode())
    command = [sys.executable, "-m", "mpesa_sync", "alerts", "channel", bar.hex, "--set"]
    try:
        done = await asyncio.to_thread(
            lambda: subprocess.run(
                command,
                env=environment(database_url, MPESA_KMS_KEY=KEY.reveal()),
                stdin=side,
                capture_output=True,
                text=True,
            )
        )
    finally:
        os.close(side)
        os.close(main)
    assert (done.returncode, done.stdout) == (64, ""), done.stderr
    assert "send the address on stdin" in done.stderr
    assert await venue_channels.read(db, bar) is None


def _with_stdin(text: str, arguments: list[str], url: str, more: dict[str, str]) -> Ended:
    command = [sys.executable, "-m", "mpesa_sync", *arguments]
    done = subprocess.run(command, env=environment(url, **more), input=f"{text}\n", capture_output=True, text=True)
    return Ended(done.returncode, done.stdout, done.stderr)


async def test_before_db_init_it_is_said_what_to_do(platform_url: str) -> None:
    """Spec 6: one clear line, exit code 1."""
    for arguments in (["list"], ["channel", "x"]):
        ended = await run(*arguments, url=platform_url)
        assert (ended.code, ended.out) == (1, "")
        assert "mpesa-sync db init" in ended.err
