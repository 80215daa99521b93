"""A real PgBouncer before a database of the test."""

from __future__ import annotations

import os
import shutil
import socket
from asyncio.subprocess import create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.support.faults import until

BACKENDS: Final = 3
"""Backends that it has for all of its clients."""
_CONFIG: Final = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {backends}
max_client_conn = 200
"""


def program() -> str:
    """Return where PgBouncer is. Where it is not, the test is skipped, and said so; in CI it fails."""
    found = shutil.which("pgbouncer", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin")))
    if found is None:
        if "CI" in os.environ:
            pytest.fail("pgbouncer is not on this machine; .ci/run installs it")
        pytest.skip("pgbouncer is not on this machine (on Debian: apt-get install pgbouncer); CI has it")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def pooled(folder: Path, url: str, *, mode: str = "transaction") -> AsyncIterator[str]:
    """Run a pooler before the server of `url`, and give the URL of the same database through it."""
    parts, listen, config = urlsplit(url), _free_port(), folder / "pgbouncer.ini"
    config.touch(mode=0o600)
    config.write_text(
        _CONFIG.format(
            host=parts.hostname,
            port=parts.port,
            user=parts.username,
            password=parts.password,
            listen=listen,
            backends=BACKENDS,
            mode=mode,
        )
    )
    as_whom = ("-u", "nobody") if os.geteuid() == 0 else ()  # it refuses to be root
    process = await create_subprocess_exec(program(), "-q", *as_whom, str(config))
    through = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{listen}"))

    async def answers() -> bool:
        assert process.returncode is None, "pgbouncer has ended"
        try:
            connection = await asyncpg.connect(through, statement_cache_size=0)
        except OSError:
            return False
        await connection.close()
        return True

    try:
        await until(answers)
        yield through
    finally:
        process.kill()
        await process.wait()
