"""A real pooler in transaction mode between a test and its server: PgBouncer, the system's.

Where it is not installed the test is skipped; with `CI` set it fails instead.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from tests.support.faults import until

_INI: Final = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
auth_type = any
pool_mode = {mode}
default_pool_size = 4
unix_socket_dir =
server_check_delay = 0
"""


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@asynccontextmanager
async def pgbouncer(folder: Path, url: str, *, mode: str = "transaction") -> AsyncIterator[str]:
    """Start a pooler in front of a server and give the URL of the same database through it."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("pgbouncer is not installed")
    parts, listen = urlsplit(url), _free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.touch(mode=0o600)
    configuration.write_text(
        _INI.format(
            host=parts.hostname,
            port=parts.port,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            listen=listen,
            mode=mode,
        )
    )
    as_other = ("-u", "nobody") if os.geteuid() == 0 else ()  # it does not run as root
    process = await asyncio.create_subprocess_exec(
        *(program, "-q", *as_other, str(configuration)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def answers() -> bool:
        assert process.returncode is None, "pgbouncer ended"
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", listen)) == 0

    try:
        await until(answers)
        yield urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{listen}"))
    finally:
        process.kill()
        await process.wait()
