"""`If-Match` (R4): who saves over a change made meanwhile is told by whom and when, and nothing is written."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from mpesa_sync.db import settings
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import InvalidSettings
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.refusals import StaleForm
from mpesa_sync.sync.manager import MpesaSyncManager
from mpesa_sync.sync.settings_service import SettingsService
from tests.support.browsing import with_session
from tests.support.observer import database_hash, see
from tests.support.venues import SEALED, SECRETS, add_bar
from tests.support.waiting import waiter_for
from tests.support.web import Asker, Site

PATH: Final = "/api/mpesa-settings"
ON: Final[dict[str, Any]] = {"mpesa_enabled": True}
_NUMBER: Final = "update public.mpesa_credentials set business_shortcode = '600999' where tenant_id = $1"


async def etag(site: Site, who: Asker, bar: UUID) -> str:
    """Return the entity tag that GET answers."""
    answer = await site.client.get(PATH, headers=who.headers, params={"barId": str(bar)})
    assert answer.status_code == 200
    return str(answer.headers["etag"])


async def post(site: Site, who: Asker, bar: UUID, tag: str, body: dict[str, Any] = ON) -> httpx.Response:
    """Post settings on a condition."""
    return await site.client.post(PATH, headers={**who.headers, "If-Match": tag}, json={"barId": str(bar), **body})


async def test_a_form_that_is_up_to_date_is_saved(site: Site, sql: Any) -> None:
    """R4: the tag of GET, alone or in a list, and `*`; the tag moves with every change."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    first = await etag(site, owner, bar)
    assert first == await etag(site, owner, bar)
    assert (await post(site, owner, bar, f'"other", {first}')).status_code == 200
    second = await etag(site, owner, bar)
    assert second != first
    assert (await post(site, owner, bar, second, {"mpesa_enabled": False})).status_code == 200
    assert (await post(site, owner, bar, "*")).status_code == 200
    assert (await post(site, owner, uuid4(), "*")).status_code == 404


async def test_a_stale_form_names_the_colleague(site: Site, sql: Any) -> None:
    """R4: 409 with who and when; nothing is written, no alert, no operation."""
    bar = await add_bar(sql, production=False)
    asha, baraka = await site.person(sql, bar), await site.person(sql, bar)
    seen = await etag(site, asha, bar)
    began = datetime.now(UTC)
    assert (await site.client.post(PATH, headers=baraka.headers, json={"barId": str(bar), **ON})).status_code == 200
    before = await database_hash(sql)
    answer = await post(site, asha, bar, seen, {"mpesa_enabled": False})
    said = answer.json()
    assert (answer.status_code, said["code"], said["outcome"]) == (409, "stale_form", "failed")
    assert said["changed_by"] == baraka.name
    assert baraka.name in said["error"]
    at = datetime.fromisoformat(said["changed_at"])
    assert began - timedelta(seconds=2) <= at <= datetime.now(UTC) + timedelta(seconds=2)
    assert await database_hash(sql) == before
    # What is wrong with the form itself is said once it is up to date.
    assert (await post(site, asha, bar, seen, {"mpesa_enabled": "x"})).status_code == 409
    assert (await post(site, asha, bar, await etag(site, asha, bar), {"mpesa_enabled": "x"})).status_code == 400


FOREIGN: Final = {
    "a number": _NUMBER,
    "a flag": "update public.mpesa_credentials set is_active = not is_active where tenant_id = $1",
    "what customers see": "update public.bars set mpesa_enabled = not mpesa_enabled where id = $1",
    "a secret": "update public.mpesa_credentials set passkey_enc = passkey_enc || '\\x00' where tenant_id = $1",
    "a row": "delete from public.mpesa_credentials where tenant_id = $1",
    "how it is paid": "insert into mpesa_sync.credential_details (bar_id, environment, account_type, till_number) "
    "values ($1, 'production', 'till', '700700')",
}


async def test_whatever_another_program_changes_makes_a_form_stale(site: Site, sql: Any) -> None:
    """R4: the tag is of flags, numbers and the stored bytes of secrets; an unknown author is another program.

    Red when one of them is left out of the digest.
    """
    bars = {what: await add_bar(sql, production=False) for what in FOREIGN}
    owner = await site.person(sql, *bars.values())
    for what, bar in bars.items():
        assert (await site.client.post(PATH, headers=owner.headers, json={"barId": str(bar), **ON})).status_code == 200
        seen = await etag(site, owner, bar)
        await sql.execute(FOREIGN[what], bar)
        said = (await post(site, owner, bar, seen)).json()
        assert said["code"] == "stale_form", what
        if what != "how it is paid":  # our own table, which no other program writes
            assert said["changed_by"] == "another program", what
        if what in ("a number", "a secret", "a flag"):
            written = await sql.fetchval("select updated_at from public.mpesa_credentials where tenant_id = $1", bar)
            assert datetime.fromisoformat(said["changed_at"]) == written, what


async def test_a_change_that_left_no_time_has_no_time(site: Site, sql: Any) -> None:
    """R4: a program that does not keep `updated_at` is found by the flags that it left; no time is made up."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    assert (await site.client.post(PATH, headers=owner.headers, json={"barId": str(bar), **ON})).status_code == 200
    seen = await etag(site, owner, bar)
    await sql.execute("alter table public.bars disable trigger bars_updated_at")
    await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
    said = (await post(site, owner, bar, seen)).json()
    assert (said["code"], said["changed_by"], said["changed_at"]) == ("stale_form", "another program", None)
    assert "another program" in said["error"]


async def test_a_secret_saved_anew_makes_a_form_stale_and_the_tag_tells_nothing_of_it(site: Site, sql: Any) -> None:
    """R4: a colleague who pasted the same passkey again has replaced it; the tag is no digest of the secret."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    seen = await etag(site, owner, bar)
    same = {"mpesa_environment": "production", "mpesa_passkey": SECRETS[2].reveal()}
    assert (await post(site, owner, bar, seen, same)).status_code == 200
    assert await etag(site, owner, bar) != seen
    assert (await post(site, owner, bar, seen, same)).status_code == 409


async def test_the_tag_of_another_bar_is_no_tag_of_this_one(site: Site, sql: Any) -> None:
    """faults.md, abuse: two bars in the same state have different tags."""
    bar = await add_bar(sql, production=False, sealed=(SEALED[0], SEALED[1], SEALED[2]))
    twin = await add_bar(sql, production=False, sealed=(SEALED[0], SEALED[1], SEALED[2]))
    owner = await site.person(sql, bar, twin)
    assert (await post(site, owner, bar, await etag(site, owner, twin))).status_code == 409


async def test_a_weak_tag_never_matches_and_is_no_conflict(site: Site, sql: Any) -> None:
    """RFC 9110, 13.1.1: a strong comparison; where nobody has changed anything, nobody is said to have."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    tag = await etag(site, owner, bar)
    before = await database_hash(sql)
    answer = await post(site, owner, bar, f"W/{tag}")
    said = answer.json()
    assert (answer.status_code, [error["field"] for error in said["errors"]]) == (400, ["If-Match"])
    assert "send the tag that GET answered, without W/" in said["error"]
    assert await database_hash(sql) == before
    assert (await post(site, owner, bar, f'W/{tag}, "x"')).status_code == 409
    assert (await post(site, owner, bar, f"W/{tag} ,, {tag}")).status_code == 200


async def test_what_is_no_list_of_tags_is_named(site: Site, sql: Any) -> None:
    """R4.4: 400 naming the header, nothing written."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    before = await database_hash(sql)
    for tag in ("5f2c", '"5f2c', '"a" "b"', "", ",", 'w/"a"', '*, "a"'):
        answer = await post(site, owner, bar, tag)
        assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (400, ["If-Match"]), tag
    assert await database_hash(sql) == before


async def test_a_stale_form_with_an_unknown_environment_is_shown_again(site: Site, sql: Any) -> None:
    """R4: whatever was posted, a stale form is 409 with both sides, never 500; sent again, its fault is named."""
    bar = await add_bar(sql, production=False)
    visitor = await with_session(site, await site.person(sql, bar))
    form = {"csrf": visitor.csrf, "etag": "0" * 32, "mpesa_environment": "moon", "mpesa_business_shortcode": "600111"}
    path = f"/staff/bars/{bar}/mpesa"
    stale = await site.client.post(path, headers=visitor.headers, data=form)
    assert stale.status_code == 409
    assert "moon" in stale.text
    assert "What is stored now" in stale.text
    again = await site.client.post(path, headers=visitor.headers, data={**form, "etag": ""})
    assert again.status_code == 400


async def test_a_repeat_does_not_conflict_with_itself(site: Site, sql: Any) -> None:
    """R4: the first request moved the tag; its repeat, by key or by operation, is answered as it was."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    headers = {**owner.headers, "If-Match": await etag(site, owner, bar), "Idempotency-Key": "a"}
    sent: dict[str, Any] = {"headers": headers, "json": {"barId": str(bar), **ON}}
    first = await site.client.post(PATH, **sent)
    assert first.status_code == 200
    await sql.execute("update mpesa_sync.idempotency_keys set status = null, answer = null, held_until = now()")
    again = await site.client.post(PATH, **sent)
    assert (again.status_code, again.json()) == (200, first.json())


async def test_the_condition_is_judged_under_the_lock(db: Database, sql: Any) -> None:
    """R4: a colleague's change that is committed while the save waits for the bar counts: nothing is overwritten.

    The digest was right when the save began. Red when it is compared before the bar is locked.
    """
    bar = await add_bar(sql, production=False)
    add = "insert into mpesa_sync.accounts (name, password_hash) values ('asha', '!') returning id"
    person = Person(await sql.fetchval(add), "asha", is_operator=False, via=Via.TOKEN)
    member = "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, 'owner')"
    await sql.execute(member, person.id, bar)
    service, manager = SettingsService(db), MpesaSyncManager(db)

    async def digest() -> str:
        async with db.reading() as connection:
            found = await settings.stored_of(connection, bar)
        assert found is not None
        return found.digest

    seen = await digest()
    wants = SettingsChange(bar, enabled=True)
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute(_NUMBER, bar)
    saving = asyncio.create_task(service.save(wants, person, unless_changed={seen}))
    await waiter_for(sql, sql.get_server_pid())
    await transaction.commit()
    with pytest.raises(StaleForm) as caught:
        await saving
    assert caught.value.changed_by is None
    seen_bar = await see(sql, bar)
    assert seen_bar is not None
    assert seen_bar.mpesa_enabled is False
    await manager.sync_mpesa_status(bar, True, actor="program x")
    with pytest.raises(StaleForm) as caught:
        await service.save(wants, person, unless_changed={seen})
    assert caught.value.changed_by == "program x"
    with pytest.raises(InvalidSettings):
        await service.save(SettingsChange(bar, shortcode="x"), person, unless_changed={await digest()})
