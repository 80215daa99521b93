"""How transactions of ours begin and end: limits that fit each other, and connections kept while they are whole."""

from __future__ import annotations

import re
from typing import Final

import pytest

from mpesa_sync.db import session
from mpesa_sync.db.pool import Database
from mpesa_sync.db.session import Begin
from mpesa_sync.errors import BarNotFound, TransientFault

KINDS: Final = [value for value in vars(session).values() if isinstance(value, Begin)]
UNITS_S: Final = {"ms": 0.001, "s": 1.0, "min": 60.0}


@pytest.mark.parametrize("begin", KINDS, ids=lambda begin: begin.sql.split(";")[0][-20:])
def test_we_wait_longer_than_any_limit_of_the_server(begin: Begin) -> None:
    """faults.md: the server ends what takes too long, and says why; our own patience is for a silent server."""
    limits = re.findall(r"(lock|statement|idle_in_transaction_session)_timeout = '(\d+)(ms|s|min)'", begin.sql)
    seconds = {name: int(number) * UNITS_S[unit] for name, number, unit in limits}
    assert set(seconds) == {"lock", "statement", "idle_in_transaction_session"}
    assert max(seconds.values()) < begin.budget_s
    assert "isolation level read committed" in begin.sql
    assert "row_security = off" in begin.sql


async def test_a_refusal_inside_a_reading_keeps_the_connection(db: Database) -> None:
    """A mistake of the caller's says nothing against the connection."""
    backend = "select pg_backend_pid()"
    async with db.reading() as connection:
        before = await connection.fetchval(backend)
    with pytest.raises(BarNotFound):
        async with db.reading():
            raise BarNotFound("There is no such bar.")
    async with db.reading() as connection:
        assert await connection.fetchval(backend) == before


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(db: Database) -> None:
    """57014, and not a silent wait of ours."""
    with pytest.raises(TransientFault) as ended:
        async with db.reading() as connection:
            await connection.execute("set local statement_timeout = '50ms'; select pg_sleep(5)")
    assert ended.value.sqlstate == "57014"
