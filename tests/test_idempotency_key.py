"""`Idempotency-Key` (R4): a repeat is safe, whatever became of the first request and whoever repeats it."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import InvalidInput, KmsKeyMissing
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.sync import repeats
from tests.support.observer import database_hash, see
from tests.support.venues import KEY, KEYS, SECRETS, add_bar
from tests.support.web import Asker, Site

PATH: Final = "/api/mpesa-settings"
ON: Final[dict[str, Any]] = {"mpesa_enabled": True}
OFF: Final[dict[str, Any]] = {"mpesa_enabled": False}
_OPERATIONS: Final = "select count(*) from mpesa_sync.operations where bar_id = $1 and kind = 'settings'"


async def post(site: Site, who: Asker, bar: UUID, key: str, body: dict[str, Any] = ON) -> httpx.Response:
    """Post settings with a key."""
    headers = {**who.headers, "Idempotency-Key": key}
    return await site.client.post(PATH, headers=headers, json={"barId": str(bar), **body})


async def operations(sql: Any, bar: UUID) -> int:
    """Return how many saves of a bar are stored, given up or done."""
    return int(await sql.fetchval(_OPERATIONS, bar))


async def test_a_repeat_gets_the_same_answer_and_changes_nothing(site: Site, sql: Any) -> None:
    """R4: the same key and body: the same status and body, said to be a repeat; not even a row is touched."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    first = await post(site, owner, bar, "a")
    before = await database_hash(sql)
    again = await post(site, owner, bar, "a")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.text == first.text
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    # Another order of the members is the same body; another key is another request.
    turned = {"mpesa_enabled": True, "barId": str(bar)}
    headers = {**owner.headers, "idempotency-key": "a"}
    assert (await site.client.post(PATH, headers=headers, json=turned)).json() == first.json()
    assert await database_hash(sql) == before
    other = await post(site, owner, bar, "b")
    assert (other.status_code, other.json()["message"]) == (200, "Nothing had to be changed.")
    assert other.json()["operation_id"] != first.json()["operation_id"]


async def test_a_refusal_is_repeated_as_it_was(site: Site, sql: Any) -> None:
    """R4: one key, one answer: also where what was wrong has been put right since."""
    bar = await add_bar(sql)
    owner = await site.person(sql, bar)
    first = await post(site, owner, bar, "a")
    assert first.status_code == 400
    await sql.execute("delete from public.bars where id = $1", bar)
    await add_bar(sql, production=False, bar_id=bar)
    again = await post(site, owner, bar, "a")
    assert (again.status_code, again.json()) == (400, first.json())
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotency-replayed"] == "true"


async def test_another_body_under_the_same_key_is_refused(site: Site, sql: Any) -> None:
    """R4: 422, nothing is written; neither the body nor the key is stored, nor any part of a secret."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    key = f"key-{uuid4()}"
    body = {"mpesa_consumer_key": SECRETS[0].reveal(), "mpesa_environment": "production"}
    assert (await post(site, owner, bar, key, body)).status_code == 200
    before = await database_hash(sql)
    for other in (OFF, {**body, "mpesa_consumer_key": SECRETS[1].reveal()}, {**body, "mpesa_enabled": None}):
        answer = await post(site, owner, bar, key, other)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert await database_hash(sql) == before
    rows = str([tuple(row) for row in await sql.fetch("select * from mpesa_sync.idempotency_keys")])
    assert key not in rows
    assert not [secret for secret in SECRETS if secret.reveal() in rows]


async def test_a_key_belongs_to_one_person(site: Site, sql: Any) -> None:
    """R4: two people who choose the same key do not meet: neither the answer nor a 422 tells of the other."""
    bar, other = await add_bar(sql, production=False), await add_bar(sql, production=False)
    asha, baraka = await site.person(sql, bar), await site.person(sql, bar, other)
    first = await post(site, asha, bar, "a")
    second = await post(site, baraka, bar, "a")
    assert (second.status_code, second.headers.get("idempotency-replayed")) == (200, None)
    assert second.json()["operation_id"] != first.json()["operation_id"]
    # The bar is part of the body.
    assert (await post(site, baraka, other, "a")).status_code == 422
    seen = await see(sql, other)
    assert seen is not None
    assert seen.mpesa_enabled is False


@pytest.mark.parametrize(("role", "status"), [(None, 404), ("staff", 403)], ids=["left", "reads only"])
async def test_who_lost_the_right_gets_no_stored_answer(site: Site, sql: Any, role: str | None, status: int) -> None:
    """R4, faults.md: membership is asked again before anything is repeated; it is back with the membership."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    first = await post(site, owner, bar, "a")
    if role is None:
        await sql.execute("delete from mpesa_sync.memberships where account_id = $1", owner.id)
    else:
        await sql.execute("update mpesa_sync.memberships set role = $2 where account_id = $1", owner.id, role)
    refused = await post(site, owner, bar, "a")
    assert (refused.status_code, refused.json()["operation_id"]) == (status, None)
    await sql.execute("delete from mpesa_sync.memberships where account_id = $1", owner.id)
    await sql.execute(
        "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, 'owner')", owner.id, bar
    )
    assert (await post(site, owner, bar, "a")).json() == first.json()


async def test_a_key_of_the_wrong_form_is_named(site: Site, sql: Any) -> None:
    """R4: 400 naming the header; 1 to 255 printable ASCII characters are a key."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    wrong: list[Any] = ["", "x" * 256, "a\tb", "é".encode()]
    for key in wrong:
        answer = await post(site, owner, bar, key)
        assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (400, ["Idempotency-Key"])
    assert (await post(site, owner, bar, "~" * 255)).status_code == 200
    twice = [*owner.headers.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await site.client.post(PATH, headers=twice, json={"barId": str(bar)})).status_code == 400


async def test_the_order_of_checks_is_kept(site: Site, sql: Any) -> None:
    """R4: signed in before the key is looked at; a stranger leaves no key behind."""
    bar = await add_bar(sql, production=False)
    stranger = await site.person(sql)
    nobody = Asker(uuid4(), "", {})
    assert (await post(site, nobody, bar, "")).status_code == 401
    assert (await post(site, stranger, bar, "a")).status_code == 404
    assert await sql.fetchval("select count(*) from mpesa_sync.idempotency_keys") == 0


async def test_twenty_at_once_are_one_change(site: Site, sql: Any) -> None:
    """R4: one operation; everybody gets its answer, or 409 with Retry-After and the operation to ask for."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    answers = await asyncio.gather(*(post(site, owner, bar, "a") for _ in range(20)))
    good = [answer for answer in answers if answer.status_code == 200]
    busy = [answer for answer in answers if answer.status_code == 409]
    assert len(good) + len(busy) == 20
    assert len({answer.text for answer in good}) == 1
    assert len([answer for answer in good if "idempotency-replayed" not in answer.headers]) == 1
    for answer in busy:
        said = answer.json()
        assert (said["code"], said["outcome"], said["retryable"]) == ("idempotency_key_in_flight", "unknown", True)
        assert (said["operation_id"], answer.headers["retry-after"]) == (good[0].json()["operation_id"], "1")
    assert await operations(sql, bar) == 1


async def test_a_repeat_after_the_encryption_key_was_changed_is_still_a_repeat(
    site: Site, db: Database, sql: Any
) -> None:
    """R4, K: kept for 24 hours also where `MPESA_KMS_KEY` is another one since; what is new goes under the new one."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    first = await post(site, owner, bar, "a")
    db.keys = KeyRing.from_texts([generate_key(), KEY])
    again = await post(site, owner, bar, "a")
    assert (again.text, again.headers["idempotency-replayed"]) == (first.text, "true")
    assert (await post(site, owner, bar, "a", OFF)).status_code == 422
    assert (await post(site, owner, bar, "b")).status_code == 200
    # One whose answer could not be kept goes on under the operation that it stands for.
    await sql.execute("update mpesa_sync.idempotency_keys set status = null, answer = null, held_until = now()")
    once_more = await post(site, owner, bar, "a")
    assert once_more.json() == first.json()
    assert (await post(site, owner, bar, "a")).headers["idempotency-replayed"] == "true"
    assert await operations(sql, bar) == 2


def test_without_a_key_of_ours_no_request_is_told_from_another() -> None:
    """Issue 4: digests are keyed; without a key all would be alike, so nothing is promised."""
    person = Person(uuid4(), "asha", is_operator=False, via=Via.TOKEN)
    with pytest.raises(KmsKeyMissing):
        repeats.asked(KeyRing.empty(), person, uuid4(), key="a", body={})


def test_a_body_that_is_too_deep_to_be_digested_is_refused() -> None:
    """faults.md, abuse: reading and digesting have limits of their own; beyond one it is 400, never 500."""
    person = Person(uuid4(), "asha", is_operator=False, via=Via.TOKEN)
    body: dict[str, Any] = {}
    for _ in range(2_000):
        body = {"x": body}
    with pytest.raises(InvalidInput):
        repeats.asked(KEYS, person, uuid4(), key="a", body=body)
