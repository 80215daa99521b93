"""The server of a run is shared by its workers, which begin at once."""

from __future__ import annotations

import asyncio

import asyncpg

from tests.support import databases


async def test_workers_that_begin_at_once_all_sign_in(server_url: str) -> None:
    await asyncio.gather(*(databases.quick_sign_in(server_url) for _ in range(20)))

    connection = await asyncpg.connect(server_url)
    try:
        verifier = await connection.fetchval("select rolpassword from pg_authid where rolname = current_user")
    finally:
        await connection.close()
    assert verifier.startswith("SCRAM-SHA-256$1:")
