"""Every shape of a platform, from the first look to the uninstall, by the real programs (spec 2, facts).

`public` is dumped before anything of ours exists, at every step that must not change it, and after the uninstall.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from mpesa_sync.db import embedded
from tests.support import databases, shapes
from tests.support.cli import Ended, cli
from tests.support.migrate_cli import counts
from tests.support.roles import login_role
from tests.support.serving import served
from tests.support.shapes import SHAPES, Shape
from tests.support.stream_clients import open_clients
from tests.support.venues import KEY

pytestmark = pytest.mark.prove
_OURS: Final = ("mpesa_enabled", "payment_mpesa_enabled", "updated_at", "mpesa_setup_completed", "seen_on")
"""Columns of `bars` that a correction may move: the flags, and what the platform's own triggers write beside them."""

_SWITCH: Final = """
update public.mpesa_credentials set is_active = $2 where tenant_id = $1 and environment = 'production'
"""


@asynccontextmanager
async def _platform(server_url: str, shape: Shape) -> AsyncIterator[tuple[str, Any, dict[UUID, bool]]]:
    """Give the URL to attach with, another program's connection, and the authority of every bar."""
    url = await databases.make_database(server_url)
    try:
        async with databases.plain(url) as sql:
            authority = await shapes.build(sql, shape)
            if not shape.is_owned:
                yield url, sql, authority
                return
            async with login_role(sql, url) as owner:
                await sql.execute(f"alter role {owner.name} bypassrls")
                await sql.execute(f"grant create on database {urlsplit(url).path[1:]} to {owner.name}")
                for table in ("bars", "mpesa_credentials", "user_bars", "audit_logs", "mpesa_credential_events"):
                    await sql.execute(f"alter table public.{table} owner to {owner.name}")
                yield owner.url, sql, authority
                await sql.execute(f"reassign owned by {owner.name} to current_user")
    finally:
        await databases.drop_database(server_url, url)


class _Public:
    """The schema `public`, as pg_dump and plain SQL see it."""

    def __init__(self, server: embedded.Server, url: str, sql: Any) -> None:
        self._program, self._url, self._sql = server.bin_dir / "pg_dump", url, sql

    def dump(self, *, data: bool) -> str:
        """Return all of it, or its definitions alone."""
        what = [] if data else ["--schema-only"]
        said = subprocess.run(
            [str(self._program), "--schema=public", *what, self._url],
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip
        return "\n".join(line for line in said.splitlines() if "restrict " not in line)  # a word of chance

    async def rows(self) -> dict[str, list[Any]]:
        """Return every bar but for what a correction may move, and every credentials row with its version."""
        bars = await self._sql.fetch("select to_jsonb(b) - $1::text[] as row from public.bars b order by id", _OURS)
        credentials = "select c.xmin::text, to_jsonb(c) as row from public.mpesa_credentials c order by id"
        return {"bars": bars, "credentials": await self._sql.fetch(credentials)}


def _run(url: str, *arguments: str, code: int = 0) -> Ended:
    ended = cli(*arguments, url=url, MPESA_KMS_KEY=KEY.reveal())
    assert ended.code == code, (arguments, ended.code, ended.out, ended.err)
    return ended


def _drifted(authority: dict[UUID, bool], shown: dict[UUID, bool]) -> set[UUID]:
    return {bar for bar, is_active in authority.items() if shown[bar] != is_active}


async def _look(url: str, drifted: set[UUID]) -> None:
    """Nothing is installed, and nothing is written: status, check, dry run."""
    found = json.loads(_run(url, "db", "status", "--json").out)
    assert found["platform"]["missing"] == found["platform"]["odd"] == []
    records = json.loads(_run(url, "check", "--json", code=2).out)["records"]
    assert {UUID(record["bar_id"]) for record in records} == drifted
    assert counts(_run(url, "migrate", "--dry-run", "--json", code=2))["drifted"] == len(drifted)


async def _serve(home: Path, url: str, sql: Any, bar: UUID) -> None:
    """Another program switches a bar on, off and on; two open pages follow it."""
    async with (
        served(home, url=url, MPESA_KMS_KEY=KEY.reveal()) as serving,
        open_clients(serving.url, [bar], 2) as pages,
    ):
        for is_active in (True, False, True):
            await sql.execute(_SWITCH, bar, is_active)
            await pages.until_shown({bar: ("mpesa", "cash") if is_active else ("cash",)})
        assert not any(page.went_back for page in pages.all)
        assert await serving.stop() == 0


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_a_shape_is_attached_migrated_guarded_served_and_left_as_it_was(
    server: embedded.Server, tmp_path: Path, shape: Shape
) -> None:
    """Spec 1 and 7: nothing in `public` is ours but guards, by choice; data changes are the corrections alone."""
    async with _platform(server.url, shape) as (url, sql, authority):
        public = _Public(server, databases.url_of(server.url, urlsplit(url).path[1:]), sql)
        untouched, rows = public.dump(data=True), await public.rows()
        defined = public.dump(data=False)
        left = shape.refused + shape.stale
        drifted = _drifted(authority, await shapes.shown(sql))
        assert len(drifted) > 20 + left
        await _look(url, drifted)
        _run(url, "db", "init")
        await _look(url, drifted)
        assert public.dump(data=True) == untouched

        report = counts(_run(url, "migrate", "--yes", "--json", code=3 if left else 0))
        assert (report["fixed"], report["quarantined"]) == (len(drifted) - left, left)
        assert len(_drifted(authority, await shapes.shown(sql))) == left
        assert await public.rows() == rows
        assert public.dump(data=False) == defined
        _run(url, "check", code=2 if left else 0)

        _run(url, "guard", "install", "--yes", code=2 if left else 0)
        assert public.dump(data=False) != defined
        bar = await shapes.add(sql, shape, False, production=False)
        await _serve(tmp_path, url, sql, bar)
        assert (await shapes.shown(sql))[bar]
        await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
        assert (await shapes.shown(sql))[bar], "the guard heals it in the writer's own transaction"
        _run(url, "guard", "remove", "--yes")
        assert public.dump(data=False) == defined

        _run(url, "db", "uninstall", "--yes")
        await sql.execute("delete from public.bars where id = $1", bar)
        assert await public.rows() == rows
        assert public.dump(data=False) == defined
