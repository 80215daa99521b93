"""The embedded server starts with its first client, ends with its last, and survives every kill."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from mpesa_sync.db import embedded
from tests.support.embedded_clients import Client, alive, ask, client, servers_of, until

KEEP = ("CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose data folder is there already, to be copied: making one takes most of a second."""
    home = tmp_path_factory.mktemp("made")
    with embedded.start(home):
        pass
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A home of its own, with data."""
    return Path(shutil.copytree(made, tmp_path / "home"))


def gone(home: Path) -> bool:
    return not servers_of(home) and not embedded.is_running(home)


def test_a_server_runs_inside_the_block_and_has_stopped_after_it(tmp_path: Path) -> None:
    """The last client waits for a clean stop: the log says so, and the data folder has no pid file."""

    async def story() -> tuple[int, object]:
        assert not embedded.exists(tmp_path)
        async with embedded.running(tmp_path) as server:
            number = await ask(server.url, "SELECT current_setting('server_version_num')::int / 10000")
            assert server.major == number
            assert server.version.startswith(f"{server.major}.")
            assert (server.bin_dir / "postgres").is_file()
            assert servers_of(tmp_path).count(server.postmaster_pid) == 1
            return server.postmaster_pid, await ask(
                server.url_for("postgres"),
                "SELECT pg_encoding_to_char(encoding) || ' ' || datcollate FROM pg_database LIMIT 1",
            )

    postmaster, encoding = asyncio.run(story())
    assert encoding in ("UTF8 C.UTF-8", "UTF8 C")
    assert not alive(postmaster)
    assert gone(tmp_path)
    assert embedded.exists(tmp_path)
    assert "database system is shut down" in (tmp_path / "postgres/server.log").read_text()


def test_a_second_process_uses_the_same_server_and_the_last_to_leave_stops_it(
    home: Path,
) -> None:
    """One data folder, one server, whoever came first; leaving first stops nothing."""
    with client(home) as first, client(home) as second:
        assert (first.postmaster, first.url) == (second.postmaster, second.url)
        first.leave()
        assert asyncio.run(ask(second.url, "SELECT 1")) == 1
        second.leave()
    assert gone(home)


def test_a_killed_client_leaves_no_server_behind(home: Path) -> None:
    """kill -9 of the last client runs none of its code; the supervisor sees the lock go."""
    with client(home) as only:
        only.kill()
    until(lambda: gone(home), "server and supervisor to end")
    assert not alive(only.postmaster)
    assert not alive(only.supervisor)
    assert "database system is shut down" in (home / "postgres/server.log").read_text()


def test_a_killed_supervisor_takes_the_server_along_and_the_next_start_has_the_data(
    home: Path,
) -> None:
    """PostgreSQL is not orphaned: it gets the death signal although its credentials changed."""
    with client(home) as first:
        asyncio.run(ask(first.url, *KEEP))
        os.kill(first.supervisor, signal.SIGKILL)
        until(lambda: not servers_of(home), "PostgreSQL to end with its supervisor")
        with client(home) as second:
            assert second.supervisor != first.supervisor
            assert second.url == first.url, "the same port, for the pools that knew it"
            assert asyncio.run(ask(second.url, "SELECT n FROM kept")) == 42


def test_a_client_can_have_the_server_brought_back_after_its_supervisor_was_killed(
    home: Path,
) -> None:
    """`ensure_running` is what a long-lived process calls when its database is away."""
    with embedded.start(home) as server:
        before = server.supervisor_pid
        os.kill(before, signal.SIGKILL)
        until(lambda: not alive(before), "the supervisor to be dead")
        server.ensure_running()
        assert server.supervisor_pid != before
        assert asyncio.run(ask(server.url, "SELECT 1")) == 1


def test_a_killed_postmaster_comes_back_with_what_was_committed(home: Path) -> None:
    """Also when one of its backends is stuck and still holds the shared memory."""
    with embedded.start(home) as server:
        asyncio.run(ask(server.url, *KEEP))
        before, url = server.postmaster_pid, server.url
        stuck = next(pid for pid in servers_of(home) if pid != before)
        os.kill(stuck, signal.SIGSTOP)
        os.kill(before, signal.SIGKILL)
        try:
            until(lambda: server.postmaster_pid != before, "another postmaster")
        finally:
            if alive(stuck):
                os.kill(stuck, signal.SIGKILL)
                pytest.fail("the stuck process of the dead postmaster was left alone")
        assert server.url == url
        assert asyncio.run(ask(server.url, "SELECT n FROM kept")) == 42


def test_a_killed_backend_costs_its_connections_and_no_committed_data(home: Path) -> None:
    """PostgreSQL recovers from this by itself; the supervisor must not get in its way."""
    with embedded.start(home) as server:
        asyncio.run(ask(server.url, *KEEP))
        before = server.postmaster_pid
        backend = next(pid for pid in servers_of(home) if pid != before)
        os.kill(backend, signal.SIGKILL)

        def recovered() -> bool:
            try:
                return asyncio.run(ask(server.url, "SELECT n FROM kept")) == 42
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return False

        until(recovered, "the data after recovery")
        assert server.postmaster_pid == before


def test_everything_killed_at_once_and_a_reused_process_id_do_not_block_the_next_start(
    home: Path,
) -> None:
    """A stale postmaster.pid names a live process that is no PostgreSQL, as after a container's restart."""
    with client(home) as first:
        asyncio.run(ask(first.url, *KEEP))
        everybody = (first.supervisor, *servers_of(home))
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none sees another die
            for pid in everybody:
                with suppress(ProcessLookupError):  # PostgreSQL ends with its supervisor
                    os.kill(pid, number)
        first.kill()
    until(lambda: gone(home), "everything to be dead")
    pidfile = home / "postgres/data/postmaster.pid"
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        pidfile.write_text(f"{sleeper.pid}\n" + pidfile.read_text().partition("\n")[2])
        with embedded.start(home) as server:
            assert asyncio.run(ask(server.url, "SELECT n FROM kept")) == 42
        assert sleeper.poll() is None, "a stranger's process was ended"
    finally:
        sleeper.kill()
        sleeper.wait()


def test_five_starts_at_once_give_one_server(tmp_path: Path) -> None:
    """Nobody is refused, nobody starts a second one; also from an empty folder."""
    clients = [Client(tmp_path) for _ in range(5)]
    try:
        seen = {(c.ready().postmaster, c.url) for c in clients}
        assert len(seen) == 1
        for c in clients:
            assert asyncio.run(ask(c.url, "SELECT 1")) == 1
    finally:
        for c in clients:
            c.kill()
    until(lambda: gone(tmp_path), "the server to end")
    log = (tmp_path / "postgres/server.log").read_text()
    assert log.count("ready to accept connections") == 1


def test_a_client_that_comes_while_the_last_one_leaves_gets_a_running_server(
    home: Path,
) -> None:
    """At every stage of the stop the newcomer can connect at once: it is never refused."""
    state = home / "postgres/server.json"
    for stage in ("just killed", "stop begun", "server gone", "supervisor gone"):
        with client(home) as leaving:
            watched = {"server gone": leaving.postmaster, "supervisor gone": leaving.supervisor}
            leaving.process.kill()
            if stage == "stop begun":
                until(lambda: not state.exists(), stage)
            for pid in filter(None, [watched.get(stage)]):
                until(lambda pid=pid: not alive(pid), stage)  # type: ignore[misc]  # binds pid now
            with embedded.start(home) as server:
                assert asyncio.run(ask(server.url, "SELECT 1")) == 1
                assert len([p for p in servers_of(home) if p == server.postmaster_pid]) == 1


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_brings_the_server_back_with_its_data(home: Path, mode: str) -> None:
    """For tests and the demo's "database killed"."""
    with embedded.start(home) as server:
        asyncio.run(ask(server.url, *KEEP))
        before = server.postmaster_pid
        server.restart("fast" if mode == "fast" else "immediate")
        assert server.postmaster_pid != before
        assert asyncio.run(ask(server.url, "SELECT n FROM kept")) == 42


def test_the_last_client_may_leave_while_the_server_recovers_from_a_crash(home: Path) -> None:
    """A fast shutdown at that moment would never end (PostgreSQL 15 and 18): recovery is waited for."""
    with embedded.start(home) as server:
        asyncio.run(
            ask(server.url, "CREATE TABLE long AS SELECT n, repeat('x', 100) FROM generate_series(1, 300000) n")
        )
        backend = next(pid for pid in servers_of(home) if pid != server.postmaster_pid)
        os.kill(backend, signal.SIGKILL)
        log = home / "postgres/server.log"
        until(lambda: "reinitializing" in log.read_text(), "the recovery to begin")
        begun = time.monotonic()
    assert time.monotonic() - begun < 60
    assert gone(home)
    end = log.read_text()
    assert "redo done" in end
    assert end.index("received fast shutdown request", end.index("reinitializing")) > end.index("redo done")


def test_a_supervisor_killed_while_the_server_recovers_leaves_no_orphan(home: Path) -> None:
    """The signal that PostgreSQL gets at its parent's death ends it at every moment."""
    with client(home) as first:
        backend = next(pid for pid in servers_of(home) if pid != first.postmaster)
        os.kill(backend, signal.SIGKILL)
        until(lambda: "reinitializing" in (home / "postgres/server.log").read_text(), "the recovery to begin")
        os.kill(first.supervisor, signal.SIGKILL)
        until(lambda: not servers_of(home), "PostgreSQL to end with its supervisor")
