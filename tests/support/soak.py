"""Who is at work in the soak: staff over HTTP whose every word is kept, old programs, and an observer (faults.md)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import httpx

from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.identity.tokens import Tokens
from tests.support.crowds import LEGAL
from tests.support.databases import plain
from tests.support.guarding import drifted
from tests.support.observer import see
from tests.support.venues import KEYS
from tests.support.web import JWT_SECRET

_PATH: Final = "/api/mpesa-settings"
_SAVES: Final = (
    "select count(*) from mpesa_sync.operations where bar_id = $1 and kind = 'settings' and outcome = 'applied'"
)
_PASSKEY: Final = "select passkey_enc from public.mpesa_credentials where tenant_id = $1 and environment = 'production'"
_ROWS: Final = "update public.mpesa_credentials set is_active = $2 where tenant_id = $1"
_FLAG: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
_ADD_OWNER: Final = "insert into mpesa_sync.accounts (name, password_hash) values ('soak', '!') returning id"
_MEMBER: Final = "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, 'owner')"
_SETTLED_WITHIN_S: Final = 90.0


async def owner_of(sql: Any, bars: list[UUID], *, lasts_s: float) -> dict[str, str]:
    """Return the headers of a new owner of these bars, for a server that knows `JWT_SECRET`."""
    owner = await sql.fetchval(_ADD_OWNER)
    for bar in bars:
        await sql.execute(_MEMBER, owner, bar)
    tokens = Tokens(JWT_SECRET, issuer=None, audience="authenticated")
    return {"authorization": f"Bearer {tokens.mint(owner, int(lasts_s)).reveal()}"}


class Gate:
    """Lets everybody work, or holds them between two of their steps until all stand still."""

    def __init__(self, size: int) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._waiting, self._size = 0, size
        self._still = asyncio.Event()

    async def step(self) -> None:
        """Go on, or wait."""
        if self._open.is_set():
            await asyncio.sleep(0)
            return
        self._waiting += 1
        if self._waiting == self._size:
            self._still.set()
        await self._open.wait()
        self._waiting -= 1

    async def close(self, deadline_s: float = 2 * _SETTLED_WITHIN_S) -> None:
        """Wait until everybody stands still."""
        self._still.clear()
        self._open.clear()
        async with asyncio.timeout(deadline_s):
            await self._still.wait()

    def open(self) -> None:
        """Let them go on."""
        self._open.set()


class Staff:
    """One person and one bar that nobody else writes: whatever was told must be so, once, and nothing else."""

    def __init__(self, client: httpx.AsyncClient, headers: dict[str, str], bar: UUID, sql: Any, seed: int) -> None:
        self._client, self._headers, self.bar, self._sql = client, headers, bar, sql
        self._drawn = random.Random(seed)
        self._enabled, self._passkey = False, ""
        self._applied = 0
        self.told: Counter[str] = Counter()

    async def work(self, gate: Gate, stop: asyncio.Event) -> None:
        """Save, settle, and hold the database against what was told, until told to stop."""
        while not stop.is_set():
            await gate.step()
            enabled, passkey = self._drawn.random() < 0.5, f"passkey-{uuid4().hex}"
            if await self._saved(enabled, passkey):
                self._enabled, self._passkey = enabled, passkey
                self._applied += 1
            await self._holds()
            await asyncio.sleep(0.05)

    async def _saved(self, enabled: bool, passkey: str) -> bool:
        """Post until it is known what became of it: an outcome that nobody knows is asked for again, by its key."""
        body = {"barId": str(self.bar), "mpesa_enabled": enabled, "mpesa_environment": "production",
                "mpesa_passkey": passkey}  # fmt: skip
        headers = {**self._headers, "idempotency-key": uuid4().hex}
        async with asyncio.timeout(_SETTLED_WITHIN_S):
            while True:
                try:
                    answer = await self._client.post(_PATH, headers=headers, json=body, timeout=15)
                except httpx.TransportError:
                    self.told["no answer"] += 1
                else:
                    if answer.status_code == 200:
                        self.told["saved"] += 1
                        return True
                    outcome = answer.json()["outcome"]
                    self.told[f"{answer.status_code} {outcome}"] += 1
                    assert answer.status_code in (409, 500, 503, 504), answer.text
                    if answer.status_code != 409 and outcome == "failed":
                        return False
                await asyncio.sleep(self._drawn.uniform(0.05, 0.3))

    async def _holds(self) -> None:
        """See that all of the last save that was told is stored, and that no save was done twice."""
        seen = await see(self._sql, self.bar)
        assert seen is not None
        assert (seen.mpesa_enabled is True, seen.authority) == (self._enabled, self._enabled), "partial or lost"
        if self._passkey:
            stored = await self._sql.fetchval(_PASSKEY, self.bar)
            assert open_stored(KEYS, stored).secret.reveal() == self._passkey, "a passkey that nobody was told of"
        assert await self._sql.fetchval(_SAVES, self.bar) == self._applied, "lost or doubled"


class OldProgram:
    """Plain SQL of one field on bars that all share; what it may be refused is counted."""

    def __init__(self, url: str, bars: list[UUID], seed: int) -> None:
        self._url, self._bars, self._drawn = url, bars, random.Random(seed)
        self.told: Counter[str] = Counter()

    async def work(self, gate: Gate, stop: asyncio.Event) -> None:
        """Write until told to stop."""
        async with plain(self._url) as sql:
            while not stop.is_set():
                await gate.step()
                statement, name = self._drawn.choice([(_ROWS, "credentials"), (_FLAG, "flag")])
                try:
                    await sql.execute(statement, self._drawn.choice(self._bars), self._drawn.random() < 0.5)
                except asyncpg.PostgresError as refused:
                    if refused.sqlstate not in LEGAL:
                        raise
                    self.told[str(refused.sqlstate)] += 1
                else:
                    self.told[name] += 1
                await asyncio.sleep(0.02)


async def watch(sql: Any, is_guarded: Callable[[], bool], stop: asyncio.Event) -> int:
    """See again and again that nothing committed is drifted while guards are on; return how often."""
    reads = 0
    while not stop.is_set():
        guarded = is_guarded()
        found = await drifted(sql)
        assert not (guarded and is_guarded() and found), f"drifted behind the guards: {found}"
        reads += 1
        await asyncio.sleep(0.1)
    return reads


def held(pids: set[int]) -> tuple[int, int]:
    """Return the bytes of memory and the open files that these processes hold together."""
    resident = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in pids)
    return resident, sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
