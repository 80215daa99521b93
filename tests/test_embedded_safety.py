"""What the embedded server keeps to itself: its password, its port, its files, and the data in its log."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import asyncpg
import pytest

from mpesa_sync.db import embedded
from mpesa_sync.db.embedded import locks, options
from mpesa_sync.errors import EmbeddedServerError
from tests.support.embedded_clients import ask, servers_of, until

CANARY = "canary-7f3a9c"


def test_only_the_right_password_is_let_in(tmp_path: Path) -> None:
    """SCRAM for every user, database and address; the password is random for each folder."""
    with embedded.start(tmp_path / "a") as server, embedded.start(tmp_path / "b") as other:
        password = (tmp_path / "a/postgres/password").read_text()
        assert len(password) >= 32
        assert password != (tmp_path / "b/postgres/password").read_text()
        assert server.port != other.port
        for wrong in ("", "wrong", (tmp_path / "b/postgres/password").read_text()):
            with pytest.raises(asyncpg.InvalidPasswordError):
                asyncio.run(ask(server.url.replace(password, wrong)))
        rules = asyncio.run(ask(server.url, "SELECT string_agg(DISTINCT auth_method, ' ') FROM pg_hba_file_rules"))
        assert rules == "scram-sha-256"


def processes_of(server: embedded.Server, home: Path) -> Iterator[tuple[int, AbstractContextManager[None]]]:
    """Yield each process of a server with what it is looked at in: some of PostgreSQL's own come and go meanwhile."""
    for pid in (server.supervisor_pid, *servers_of(home)):
        yield pid, nullcontext() if pid in (server.supervisor_pid, server.postmaster_pid) else suppress(OSError)


def test_the_password_is_never_printed_nor_on_a_command_line(tmp_path: Path) -> None:
    """Neither in repr, nor in a log, nor in any process's arguments or environment, nor in the other files."""
    with embedded.start(tmp_path) as server:
        password = (tmp_path / "postgres/password").read_text()
        assert password in server.url
        assert password not in f"{server!r} {server}"
        for pid, may_end in processes_of(server, tmp_path):
            for what in ("cmdline", "environ"):
                with may_end:
                    assert password.encode() not in Path(f"/proc/{pid}/{what}").read_bytes()
        for file in (tmp_path / "postgres").iterdir():
            if file.is_file() and file.name != "password":
                assert password not in file.read_text()


def test_a_key_in_the_environment_of_the_client_does_not_live_on_in_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor may outlive its client by hours: it gets an import path and nothing else."""
    monkeypatch.setenv("MPESA_KMS_KEY", CANARY)
    monkeypatch.setenv("PGPORT", "1")
    with embedded.start(tmp_path) as server:
        for pid, may_end in processes_of(server, tmp_path):
            with may_end:
                environ = Path(f"/proc/{pid}/environ").read_bytes()
                assert CANARY.encode() not in environ
                assert b"PGPORT" not in environ


def test_the_server_listens_on_the_loopback_address_only(tmp_path: Path) -> None:
    """Read from the kernel's tables: one TCP socket on 127.0.0.1, and no socket file anywhere."""
    with embedded.start(tmp_path) as server:
        port = f"{server.port:04X}"
        listening = [
            line.split()[1]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            if line.split()[1].endswith(f":{port}") and line.split()[3] == "0A"
        ]
        assert listening == [f"0100007F:{port}"]
        assert f".s.PGSQL.{server.port}" not in Path("/proc/net/unix").read_text()
        assert asyncio.run(ask(server.url, "SHOW unix_socket_directories")) == ""


def test_everything_made_is_for_this_user_alone_and_what_was_there_keeps_its_rights(tmp_path: Path) -> None:
    """0700 and 0600 whatever the umask; parents and a home that existed are not touched."""
    parent, home = tmp_path / "parent", tmp_path / "parent" / "home"
    for folder in (parent, home):
        folder.mkdir()
        folder.chmod(0o755)
    before = os.umask(0)
    try:
        with embedded.start(home), embedded.start(tmp_path / "new" / "deep"):
            pass
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (parent, home)} == {0o755}
    made = [home / "postgres", tmp_path / "new", tmp_path / "new/deep"]
    made += [p for root in (home, tmp_path / "new") for p in root.rglob("*")]
    for path in made:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_rows_and_statements_do_not_reach_the_server_log(tmp_path: Path) -> None:
    """A failed constraint's DETAIL holds the row, a crashed backend's its statement (faults.md 2)."""
    with embedded.start(tmp_path) as server:
        table = "CREATE TABLE secret (k text CHECK (length(k) < 3), n int PRIMARY KEY)"
        asyncio.run(ask(server.url, table, "INSERT INTO secret VALUES ('a', 1)"))
        for bad in (f"INSERT INTO secret VALUES ('{CANARY}', 2)", f"INSERT INTO nowhere VALUES ('{CANARY}')"):
            with pytest.raises(asyncpg.PostgresError):
                asyncio.run(ask(server.url, bad))

        async def crash() -> None:
            connection = await asyncpg.connect(server.url)
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            running = asyncio.create_task(connection.fetchval(f"SELECT pg_sleep(60), '{CANARY}'"))
            busy = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'"
            async with asyncio.timeout(10):
                while await ask(server.url, busy) != 1:
                    pass
            os.kill(pid, signal.SIGKILL)
            with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                await running

        asyncio.run(crash())
        log = tmp_path / "postgres/server.log"
        until(lambda: "was terminated by signal 9" in log.read_text(), "the crash in the log")
        assert "violates check constraint" in log.read_text(), "the log is still of use"
        assert CANARY not in log.read_text()


def test_a_setting_that_would_open_the_server_is_refused() -> None:
    """The private ones cannot be given as extra settings, in whatever case; others can."""
    for name in ("listen_addresses", "unix_socket_directories", "hba_file", "log_error_verbosity", "port"):
        with pytest.raises(EmbeddedServerError, match=name):
            options.checked({name: "x"})
    for name in ("Listen_Addresses", "a b", "x=y", ""):
        with pytest.raises(EmbeddedServerError, match="name"):
            options.checked({name: "x"})
    assert options.checked({"work_mem": "5MB", "auto_explain.x": "1"}) == {"work_mem": "5MB", "auto_explain.x": "1"}


def test_two_homes_share_nothing_and_nothing_lies_outside_them(tmp_path: Path) -> None:
    """Two checkouts on one machine: other port, other password, no file in the temp folder or anywhere else."""
    with embedded.start(tmp_path / "a") as a, embedded.start(tmp_path / "b") as b:
        assert (a.port, a.postmaster_pid, a.supervisor_pid) != (b.port, b.postmaster_pid, b.supervisor_pid)
        for server, home in ((a, tmp_path / "a"), (b, tmp_path / "b")):
            opened = []
            for pid, may_end in processes_of(server, home):
                with may_end:
                    opened += open_files(pid)
            assert opened
            assert [target for target in opened if not target.startswith(str(home))] == []


def open_files(pid: int) -> list[str]:
    """Files that a process has open, without devices, pipes, shared memory and programs."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if re.match(r"/(?!dev/(?!shm/(?!PostgreSQL\.))|proc/)", target):  # a home may lie in memory itself
            found.append(target)
    return found


def test_a_folder_that_others_may_enter_or_own_is_refused(tmp_path: Path) -> None:
    """A password file there would be no secret; rights that exist are not changed behind anybody's back."""
    folder = tmp_path / "postgres"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match="others may enter"):
        embedded.start(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert list(folder.iterdir()) == []
    if os.geteuid() == 0:
        folder.chmod(0o700)
        os.chown(folder, 12345, 12345)
        with pytest.raises(EmbeddedServerError, match="user id 12345"):
            embedded.start(tmp_path)


def test_a_folder_that_cannot_be_made_is_said_in_plain_words(tmp_path: Path) -> None:
    """Here a file is in the way."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="cannot be used"):
        embedded.start(tmp_path / "file" / "home")


def test_a_full_disk_is_said_in_plain_words(tmp_path: Path) -> None:
    """A small file system of its own; nothing half-made stays, no process either."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=700", "tmpfs", tmp_path], check=True)
    try:
        with pytest.raises(EmbeddedServerError, match=r"could not be made.*MB are free"):
            embedded.start(tmp_path)
        assert not embedded.exists(tmp_path)
        assert list((tmp_path / "postgres").glob("data*")) == []
        until(lambda: not embedded.is_running(tmp_path), "the supervisor to end")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_start_that_takes_too_long_ends_with_a_message(tmp_path: Path) -> None:
    """Bounded by `timeout_s`, here while another process holds the start lock."""
    (tmp_path / "postgres").mkdir(mode=0o700)
    held = locks.try_lock(tmp_path / "postgres" / "start.lock")
    assert held is not None
    try:
        with pytest.raises(EmbeddedServerError, match="gave up waiting"):
            embedded.start(tmp_path, timeout_s=0.1)
    finally:
        os.close(held)
