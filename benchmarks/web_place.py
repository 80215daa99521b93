"""Where `benchmarks.web` measures: the processes that serve, those that ask, and a fleet with an owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from benchmarks.place import KEY, plain
from benchmarks.web_app import CONTROL
from benchmarks.web_clients import GIVE_UP_S, Load, Loaded
from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.identity.tokens import Tokens
from mpesa_sync.secret import Secret
from mpesa_sync.settings import DATABASE_URL, JWT_SECRET, KMS_KEY

_PIPE: Final = asyncio.subprocess.PIPE
_COUNTED_WITHIN_S: Final = 0.5
"""The shared timer of the live path adds up what was sent since it last did."""
_ADD_OWNER: Final = """
with added as (
  insert into mpesa_sync.accounts (name, password_hash) values ('bench', '!') returning id
), member as (
  insert into mpesa_sync.memberships (account_id, bar_id, role) select a.id, b.id, 'owner' from added a, public.bars b
)
select id from added
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A database, an owner of all its bars, and what the processes that serve it are told."""

    url: str
    owner: UUID
    jwt_secret: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a process that serves it."""
        return {**os.environ, DATABASE_URL: self.url, KMS_KEY: KEY.reveal(), JWT_SECRET: self.jwt_secret}


@dataclass(frozen=True, slots=True)
class Target:
    """A process that serves."""

    port: int
    pid: int

    async def said(self) -> dict[str, Any]:
        """Return what its control route says."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {CONTROL} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        found: dict[str, Any] = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
        return found

    async def counted(self, metric: str) -> float:
        """Return what a counter stands at, over all of its labels; what was sent lately may be missing."""
        await asyncio.sleep(_COUNTED_WITHIN_S)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
        lines = (await reader.read()).decode().splitlines()
        writer.close()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric))

    async def until(self, **wanted: Any) -> None:
        """Wait until the control route says so."""
        async with asyncio.timeout(GIVE_UP_S):
            while not wanted.items() <= (await self.said()).items():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)


async def make_site(url: str) -> Site:
    """Add an owner of every bar; return what is needed to serve and to ask."""
    async with plain(url) as connection:
        owner: UUID = await connection.fetchval(_ADD_OWNER)
        await connection.execute("vacuum analyze")
    secret = generate_key().reveal()
    token = Tokens(Secret(secret), issuer=None, audience="authenticated").mint(owner, 3600)
    return Site(url, owner, secret, token.reveal())


@asynccontextmanager
async def place(kind: str, site: Site, *arguments: str) -> AsyncIterator[Target]:
    """Serve in a process of its own while the block runs. Its log is written, and thrown away."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.web_app", kind, *arguments),
        env=site.environment,
        stdout=_PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(GIVE_UP_S):
            port = int(await process.stdout.readline())
        target = Target(port, process.pid)
        if kind == "app":
            await target.until(live=True, mode="notices")
        yield target
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def load(spec: Load) -> Loaded:
    """Run the load client as a process and return what it found."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.web_clients", "load"), stdin=_PIPE, stdout=_PIPE
    )
    found, _ = await process.communicate(msgspec.json.encode(spec) + b"\n")
    loaded = msgspec.json.decode(found, type=Loaded)
    assert not loaded.refused, f"{loaded.refused} refused, as {loaded.example}"
    return loaded


class Writer:
    """A process that writes plain SQL, and says when that was acknowledged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def _do(self, line: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n".encode())
        return float(await self._process.stdout.readline())

    async def write(self, bar: str, name: str) -> float:
        """Give a bar a name; return when the commit was acknowledged (monotonic seconds)."""
        return await self._do(f"write {bar} {name}")

    async def kill(self, application: str) -> float:
        """End the connections of an application; return when that was acknowledged."""
        return await self._do(f"kill {application}")


class Crowd:
    """A process that reads many streams of one bar, apart from whoever measures another's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self) -> float:
        """Return the next moment that it names (monotonic seconds)."""
        assert self._process.stdout is not None
        return float(await self._process.stdout.readline())

    def expect(self, marker: str) -> None:
        """Have it say when every stream has got bytes that hold the marker."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{marker}\n".encode())


@asynccontextmanager
async def _clients(what: str, begin: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.web_clients", what), stdin=_PIPE, stdout=_PIPE
    )
    assert process.stdin is not None
    try:
        process.stdin.write(f"{begin}\n".encode())
        yield process
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def writer(url: str) -> AsyncIterator[Writer]:
    """Give the writing process while the block runs."""
    async with _clients("write", url) as process:
        yield Writer(process)


@asynccontextmanager
async def crowd(port: int, path: str, count: int) -> AsyncIterator[Crowd]:
    """Give a process with so many open streams while the block runs."""
    async with _clients("crowd", f"{port} {path} {count}") as process:
        reading = Crowd(process)
        await reading.said()
        yield reading
