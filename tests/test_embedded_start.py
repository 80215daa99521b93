"""Starting the embedded server where something is in the way: a taken port, a bad setting, a caller who leaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpesa_sync.db import embedded
from mpesa_sync.db.embedded import runas
from mpesa_sync.db.embedded.layout import Layout
from mpesa_sync.db.embedded.postmaster import Postmaster, free_ports
from mpesa_sync.errors import EmbeddedServerError
from tests.support.embedded_clients import ask, client, servers_of, until


def gone(home: Path) -> bool:
    return not servers_of(home) and not embedded.is_running(home)


def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    """Both ways: seen before the start, and only by PostgreSQL itself."""
    with client(tmp_path) as first:
        os.kill(first.supervisor, signal.SIGKILL)
    until(lambda: gone(tmp_path), "everything to be dead")
    layout = Layout(tmp_path)
    port = json.loads(layout.state.read_text())["port"]
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        with embedded.start(tmp_path) as server:
            assert server.port != port
            bin_dir = server.bin_dir
            assert asyncio.run(ask(server.url, "SELECT 1")) == 1
        prefix = runas.prefix(layout.read_cluster().way, layout.folder, bin_dir)
        assert prefix is not None
        postmaster = Postmaster(layout, bin_dir, prefix, {})
        free = next(free_ports())
        assert postmaster.start(iter([port, port, port, free])) == free
        postmaster.stop()
        with pytest.raises(EmbeddedServerError, match="could not be started"):
            postmaster.start(iter([port] * 10))


def test_a_setting_that_postgresql_refuses_is_said_in_plain_words(tmp_path: Path) -> None:
    """Bounded, no hang, no server left; without the setting it works."""
    begun = time.monotonic()
    with pytest.raises(EmbeddedServerError, match=r"server\.log says why"):
        embedded.start(tmp_path, extra_settings={"shared_buffers": "banana"})
    assert time.monotonic() - begun < 40
    assert gone(tmp_path)
    with embedded.start(tmp_path, extra_settings={"work_mem": "5MB"}) as server:
        assert asyncio.run(ask(server.url, "SHOW work_mem")) == "5MB"


def test_a_caller_cancelled_while_the_server_starts_does_not_keep_it(tmp_path: Path) -> None:
    """The thread that starts it cannot be stopped; what it brings is let go of."""

    async def story() -> None:
        async def use() -> None:
            async with embedded.running(tmp_path):
                raise AssertionError("it was to be cancelled before")

        task = asyncio.create_task(use())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    until(lambda: embedded.exists(tmp_path) and gone(tmp_path), "the server to be let go")


FORKING = """
import os, sys
from pathlib import Path
from mpesa_sync.db import embedded
server = embedded.start(Path(sys.argv[1]))
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
server.close()
print("closed", flush=True)
"""


def test_a_forked_child_keeps_the_server_and_keeps_nobody_out(tmp_path: Path) -> None:
    """A web server's workers are forked: the parent's going stops nothing, newcomers are welcome."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "closed\n"
        before = embedded.is_running(tmp_path)
        with embedded.start(tmp_path, timeout_s=10) as server:
            assert asyncio.run(ask(server.url, "SELECT 1")) == 1
        assert before
        assert embedded.is_running(tmp_path)
        parent.communicate("")
    until(lambda: gone(tmp_path), "the server to end with the child")
