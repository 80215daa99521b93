"""`Idempotency-Key` (R4) when something goes wrong on the way: the caller, the database, the server itself."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from mpesa_sync.db import idempotency, session, transaction
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import IntegrityFault
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.sync import repeats
from mpesa_sync.web.auth import CSRF_HEADER
from tests.support import databases
from tests.support.browsing import with_session
from tests.support.faults import has_no_transaction, injected, until, waits_for_a_lock
from tests.support.observer import see
from tests.support.serving import served
from tests.support.venues import KEY, add_bar
from tests.support.web import Site
from tests.test_idempotency_key import ON, PATH, operations, post

_LOCK: Final = "select 1 from public.bars where id = $1 for update"
_OVER: Final = "update mpesa_sync.idempotency_keys set held_until = now() - interval '1 second'"
"""As time does it: the holder of a key is gone, and has been for long enough."""


@asynccontextmanager
async def locked(url: str, bar: UUID) -> AsyncIterator[None]:
    """Hold a bar's row, as another program does in the middle of a transaction."""
    async with databases.plain(url) as other, other.transaction():
        await other.execute(_LOCK, bar)
        yield


async def test_while_the_first_works_a_repeat_is_told_to_wait(site: Site, sql: Any, database_url: str) -> None:
    """R4: 409 with Retry-After; afterwards the same answer."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    async with locked(database_url, bar):
        first = asyncio.create_task(post(site, owner, bar, "a"))
        await until(lambda: waits_for_a_lock(sql))
        early = await post(site, owner, bar, "a")
    assert (early.status_code, early.headers["retry-after"]) == (409, "1")
    assert early.headers["location"] == f"/api/operations/{early.json()['operation_id']}"
    assert (await first).status_code == 200
    assert (await post(site, owner, bar, "a")).text == (await first).text


async def test_a_known_failure_lets_the_key_be_tried_again(site: Site, sql: Any) -> None:
    """R4: a fault of the database is no answer to keep: the next attempt gets a new operation, and succeeds."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    async with injected(sql, "before update", "public.bars", "P0001"):
        failed = await post(site, owner, bar, "a")
    assert (failed.status_code, failed.json()["outcome"]) == (500, "failed")
    again = await post(site, owner, bar, "a")
    assert (again.status_code, again.headers.get("idempotency-replayed")) == (200, None)
    assert again.json()["operation_id"] != failed.json()["operation_id"]
    assert await operations(sql, bar) == 1


async def test_a_client_that_goes_away_leaves_a_whole_change(site: Site, sql: Any, database_url: str) -> None:
    """Issue 4: the change goes on to its end, its answer is kept, no connection is stuck."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    host, port = site.url.removeprefix("http://").split(":")
    body = json.dumps({"barId": str(bar), **ON}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nidempotency-key: a\r\n"
        f"authorization: {owner.headers['authorization']}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    async with locked(database_url, bar):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        await until(lambda: waits_for_a_lock(sql))
        writer.transport.abort()
    await until(lambda: sql.fetchval("select count(*) = 1 from mpesa_sync.idempotency_keys where status = 200"))
    await until(lambda: has_no_transaction(sql))
    again = await post(site, owner, bar, "a")
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert await operations(sql, bar) == 1


async def test_a_cancelled_caller_does_not_cancel_the_request(db: Database, sql: Any) -> None:
    """Issue 4: cancelling ends the waiting alone; the work is done once, and its answer kept."""
    bar = await add_bar(sql)
    asked = await asked_by_a_member(db, sql, bar)
    began, go_on, done = asyncio.Event(), asyncio.Event(), list[UUID]()

    async def work(operation_id: UUID) -> dict[str, str]:
        began.set()
        await go_on.wait()
        done.append(operation_id)
        return {"said": "done"}

    calling = asyncio.create_task(repeats.answered_once(db, asked, work, nothing_to_say))
    await began.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    go_on.set()
    await until(lambda: sql.fetchval("select count(*) = 1 from mpesa_sync.idempotency_keys where status = 200"))
    again = await repeats.answered_once(db, asked, work, nothing_to_say)
    assert (again.status, json.loads(again.body), again.replayed) == (200, {"said": "done"}, True)
    assert len(done) == 1


async def test_an_answer_that_could_not_be_kept_is_found_by_its_operation(site: Site, sql: Any) -> None:
    """R4: the change is done and its answer is given; the repeat, once the hold is over, finds it."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    async with injected(sql, "before update of status", "mpesa_sync.idempotency_keys", "42501"):
        first = await post(site, owner, bar, "a")
    assert first.status_code == 200
    assert (await post(site, owner, bar, "a")).status_code == 409
    await sql.execute(_OVER)
    again = await post(site, owner, bar, "a")
    assert again.json() == first.json()
    assert await operations(sql, bar) == 1


@pytest.mark.prove
async def test_a_server_that_is_killed_in_the_middle_is_taken_over(
    site: Site, sql: Any, database_url: str, tmp_path: Path
) -> None:
    """faults.md: SIGKILL while the change is under way; the repeat goes on under the same operation, once."""
    bar = await add_bar(sql, production=False)
    visitor = await with_session(site, await site.person(sql, bar))
    sent: dict[str, Any] = {
        "headers": {**visitor.headers, CSRF_HEADER: visitor.csrf, "Idempotency-Key": "a"},
        "json": {"barId": str(bar), **ON},
    }
    async with (
        served(tmp_path, "--host", "127.0.0.1", url=database_url, MPESA_KMS_KEY=KEY.reveal()) as killed,
        httpx.AsyncClient(base_url=killed.url) as client,
    ):
        async with locked(database_url, bar):
            first = asyncio.create_task(client.post(PATH, **sent))
            await until(lambda: waits_for_a_lock(sql))
            assert await killed.stop(signal.SIGKILL) == -signal.SIGKILL
            with pytest.raises(httpx.TransportError):
                await first
        await until(lambda: has_no_transaction(sql))
    early = await site.client.post(PATH, **sent)
    assert (early.status_code, early.json()["outcome"]) == (409, "unknown")
    await sql.execute(_OVER)
    again = await site.client.post(PATH, **sent)
    assert (again.status_code, again.json()["operation_id"]) == (200, early.json()["operation_id"])
    assert await operations(sql, bar) == 1
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.mpesa_enabled is True


async def test_old_keys_are_forgotten_and_those_of_a_day_are_not(db: Database, sql: Any) -> None:
    """R4: kept at least 24 h."""
    bar = await add_bar(sql)
    await repeats.answered_once(db, await asked_by_a_member(db, sql, bar), said_nothing, nothing_to_say)
    age = "update mpesa_sync.idempotency_keys set created_at = now() - $1::text::interval"
    for hours, pruned in (("25 hours", 0), ("47 hours", 0), ("49 hours", 1)):
        await sql.execute(age, hours)
        assert await transaction.once(db, session.WRITE, idempotency.prune) == pruned


async def test_a_failure_of_unknown_kind_keeps_the_operation(db: Database, sql: Any) -> None:
    """faults.md 1: only what is known to have failed gets a new id; a tombstone would refuse the old one for ever."""
    bar = await add_bar(sql)
    asked = await asked_by_a_member(db, sql, bar)
    ids: list[UUID] = []

    def fails_with(error: Exception) -> Any:
        async def work(operation_id: UUID) -> Any:
            ids.append(operation_id)
            raise error

        return work

    for error in (RuntimeError(), IntegrityFault("no"), IntegrityFault("no")):
        with pytest.raises(type(error)):
            await repeats.answered_once(db, asked, fails_with(error), nothing_to_say)
    assert ids[0] == ids[1]
    assert ids[1] != ids[2]


async def asked_by_a_member(db: Database, sql: Any, bar: UUID) -> repeats.Asked:
    """Return a request with a key by somebody who may write."""
    add = "insert into mpesa_sync.accounts (name, password_hash) values ('asha', '!') returning id"
    person = Person(await sql.fetchval(add), "asha", is_operator=False, via=Via.TOKEN)
    await sql.execute(
        "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, 'owner')", person.id, bar
    )
    return repeats.asked(db.keys, person, bar, key="a", body={})


async def said_nothing(_operation_id: UUID) -> None:
    """Do nothing."""


def nothing_to_say(error: Exception, operation_id: UUID) -> Any:
    """Fail: no refusal is expected."""
    raise AssertionError(error, operation_id)
