"""The processes that messages are sent by (issue 4, 3): what a channel can do to them, and what is left of them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mpesa_sync.db.pool import Database
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.jobs import channels
from mpesa_sync.jobs.channels import Message, Sender
from mpesa_sync.secret import Secret
from tests.support.channels import FLOOD_BYTES, Endpoints, endpoints, processes, raised, until, working
from tests.support.venues import add_bar

_MESSAGE = Message("title", "body")
_MOST_MEMORY_BYTES = 50_000_000
_CANARY = "CANARY-3f0c"


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """What sends; nothing of it is left at the end of the test."""
    found = Sender()
    yield found
    await found.close()
    assert processes() == set()


def _set_back() -> None:
    """Have the mark of the most memory begin with what is used now."""
    Path("/proc/self/clear_refs").write_text("5")


def _seen(process: int) -> bytes:
    """Return what anybody on this machine, and what its user, may see of a process."""
    return b"".join(Path(f"/proc/{process}/{name}").read_bytes() for name in ("cmdline", "environ"))


def _highest_memory() -> int:
    """Return the most memory that this process has had since then, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def test_an_answer_without_end_fills_no_memory_of_ours(there: Endpoints, sender: Sender) -> None:
    """Issue 4, 3: what a channel answers fills its process, which has a limit, and not the program."""
    there.does["a"] = "floods"
    _set_back()
    before = _highest_memory()
    assert await sender.send("json-3fa2", there.url("a"), _MESSAGE) == "refused"
    assert _highest_memory() - before < _MOST_MEMORY_BYTES < FLOOD_BYTES
    there.does["a"] = "good"
    assert await sender.send("json-3fa2", there.url("a"), _MESSAGE) is None


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_one_process_sends_what_goes_over_a_channel_and_none_is_left(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Issue 4, 8: kept for the next message; killed where one went wrong, was left, or at the end, on either loop."""

    async def work() -> None:
        async with endpoints() as there:
            there.does.update(no="broken", never="hangs")
            sender = Sender(20.0)
            assert await sender.send("json-1", there.url("a"), _MESSAGE) is None
            kept = processes()
            assert await sender.send("json-1", there.url("a"), _MESSAGE) is None
            assert processes() == kept
            assert len(kept) == 1
            assert await sender.send("json-2", there.url("no"), _MESSAGE) == "refused"
            assert await sender.send("json-3", Secret("unknown://a"), _MESSAGE) == "unreadable"
            left = asyncio.create_task(sender.send("json-4", there.url("never"), _MESSAGE))
            await there.tried("never")
            left.cancel()
            await asyncio.wait([left])
            last = asyncio.create_task(sender.send("json-4", there.url("never"), _MESSAGE))
            await there.tried("never", 2)
            await sender.close()
            assert await last == "timed_out"
            assert await sender.send("json-1", there.url("a"), _MESSAGE) == "timed_out"
            assert processes() == set()
            assert len(there.heard["a"]) == 2

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work())


async def test_a_channel_that_hangs_leaves_no_process(there: Endpoints) -> None:
    """Faults.md: `alerts test` waits for the limit, and nothing of it goes on after that."""
    there.does["a"] = "hangs"
    assert await channels.send(there.url("a"), "title", "body", limit_s=2.0) == "timed_out"
    assert there.tries["a"] == 1
    assert processes() == set()


async def test_few_processes_wait_for_messages(there: Endpoints, sender: Sender) -> None:
    """Issue 4, 3: there may be a channel for every venue; a program keeps no process for each."""
    for number in range(7):
        assert await sender.send(f"json-{number}", there.url("a"), _MESSAGE) is None
    assert len(processes()) <= 5, "four, and one that is just about to end"
    assert await sender.send("json-0", there.url("a"), _MESSAGE) is None


async def test_one_message_is_under_way_over_a_channel(there: Endpoints, sender: Sender) -> None:
    """Issue 4, 8: two jobs for one channel, as after a connection that was cut, share its process."""
    said = await asyncio.gather(*(sender.send("json-1", there.url("a"), _MESSAGE) for _ in range(3)))
    assert said == [None] * 3
    assert len(processes()) == 1


async def test_a_message_whose_process_is_killed_is_tried_again(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: whatever becomes of the process, the message is sent."""
    there.does["a"] = "hangs"
    await raised(sql, await add_bar(sql))
    async with working(db, database_url, Secret(f"{there.url('a').reveal()}?rto=20")):
        await there.tried("a")
        there.does["a"] = "good"
        (child,) = processes()
        os.kill(child, signal.SIGKILL)
        await there.has("a")
        await until(sql, "select count(*) from mpesa_sync.alert_deliveries where state = 'delivered'")
    assert await sql.fetchval("select attempts from mpesa_sync.alert_deliveries") >= 1


async def test_a_stop_signal_lets_a_message_end(there: Endpoints, sender: Sender) -> None:
    """Issue 4, 8: Ctrl-C and a service manager stop every process of a program; only the program decides."""
    assert await sender.send("json-1", there.url("a"), _MESSAGE) is None
    (child,) = processes()
    os.kill(child, signal.SIGTERM)
    os.kill(child, signal.SIGINT)
    assert os.getsid(child) == child
    assert await sender.send("json-1", there.url("a"), _MESSAGE) is None
    assert processes() == {child}


async def test_a_process_does_not_outlive_its_program(there: Endpoints) -> None:
    """Issue 4, 8: also where the program was killed in the middle of a message that hangs."""
    there.does["a"] = "hangs"
    process = await asyncio.create_subprocess_exec(
        *channels.command(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stdin is not None
    content = {"url": there.url("a").reveal(), "title": "title", "body": "body", "is_over": False}
    process.stdin.write(json.dumps(content).encode() + b"\n")
    await there.tried("a")
    process.stdin.close()
    async with asyncio.timeout(20):
        assert await process.wait() == 0


async def test_a_channels_url_is_not_seen_from_outside(
    there: Endpoints, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K, T3: not in the arguments or the environment of a process, which gets no variable of ours."""
    monkeypatch.setenv("MPESA_SYNC_ALERT_URLS", json.dumps([there.url(_CANARY).reveal()]))
    monkeypatch.setenv("DATABASE_URL", f"postgresql://{_CANARY}@host/name")
    assert await sender.send("json-1", there.url(_CANARY), _MESSAGE) is None
    (child,) = processes()
    seen = _seen(child)
    assert b"sending.py" in seen
    assert _CANARY.encode() not in seen


async def test_what_a_library_says_of_a_url_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """K, T3: also of one that cannot be used, which this program itself has looked at."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError) as refused:
        channels.channels_of([Secret(f"slack://{_CANARY}"), Secret(f"unknown://{_CANARY}")], b"salt")
    assert _CANARY not in caplog.text + str(refused.value)


async def test_a_message_that_the_machine_cannot_send_is_a_failure_like_others(
    there: Endpoints, sender: Sender, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Issue 4, 3: a library that is missing or broken, or no process to be had: the word says no more than that."""
    (tmp_path / "apprise.py").write_text(f"raise RuntimeError({_CANARY!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert await sender.send("json-3fa2", there.url("a"), _MESSAGE) == "refused"
    monkeypatch.setattr("sys.executable", str(tmp_path / "missing"))
    assert await sender.send("json-3fa2", there.url("a"), _MESSAGE) == "refused"
