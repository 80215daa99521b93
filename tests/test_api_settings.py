"""POST and GET /api/mpesa-settings over real HTTP: every row of the existing API's table, and what R4 adds."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from mpesa_sync.secret import MASK
from mpesa_sync.sync.manager import MpesaSyncManager
from tests.support.faults import injected
from tests.support.observer import OF_ALERTS, changed_tables, database_hash, see
from tests.support.venues import SEALED, SECRETS, add_bar
from tests.support.web import Asker, Site

PATH: Final = "/api/mpesa-settings"
NEW: Final[dict[str, Any]] = {
    "mpesa_environment": "production",
    "mpesa_business_shortcode": "600123",
    "mpesa_consumer_key": SECRETS[0].reveal(),
    "mpesa_consumer_secret": SECRETS[1].reveal(),
    "mpesa_passkey": SECRETS[2].reveal(),
}
MASKED: Final = {**NEW, "mpesa_consumer_key": MASK, "mpesa_consumer_secret": MASK, "mpesa_passkey": MASK}


async def post(site: Site, who: Asker, bar: UUID | str | None, **body: Any) -> Any:
    """Post settings for a bar."""
    return await site.client.post(PATH, headers=who.headers, json={"barId": str(bar), **body})


async def read(site: Site, who: Asker, bar: UUID) -> dict[str, Any]:
    """Return the settings as GET answers them."""
    answer = await site.client.get(PATH, headers=who.headers, params={"barId": str(bar)})
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()["settings"]
    return found


async def test_saving_and_switching_on_is_one_answer_read_back(site: Site, sql: Any) -> None:
    """R4.1, R4.3: credentials and both fields; the answer says what was read back."""
    bar = await add_bar(sql)
    owner = await site.person(sql, bar)
    answer = await post(site, owner, bar, mpesa_enabled=True, **NEW)
    body = answer.json()
    assert answer.status_code == 200, body
    assert body["success"] is True
    assert body["sync_status"] == {"credentials_updated": True, "bar_status_updated": True}
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (True, ["production"])
    assert await read(site, owner, bar) == {
        "mpesa_enabled": True,
        "mpesa_environment": "production",
        "mpesa_business_shortcode": "600123",
        "mpesa_consumer_key": MASK,
        "mpesa_consumer_secret": MASK,
        "mpesa_passkey": MASK,
        "mpesa_setup_completed": True,
        "mpesa_last_test_at": None,
        "mpesa_test_status": "pending",
        "has_credentials": True,
        "mpesa_account_type": "paybill",
        "mpesa_till_number": "",
    }
    operation = await site.client.get(f"/api/operations/{body['operation_id']}", headers=owner.headers)
    assert (operation.status_code, operation.json()["outcome"]) == (200, "applied")
    stranger = await site.person(sql)
    hidden = await site.client.get(f"/api/operations/{body['operation_id']}", headers=stranger.headers)
    assert hidden.status_code == 404


async def test_the_settings_service_calls_the_manager_with_its_connection(
    site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1.4: it is the manager that switches, inside the transaction of the save."""
    bar = await add_bar(sql)
    owner = await site.person(sql, bar)
    calls: list[tuple[UUID, bool, Any]] = []
    real = MpesaSyncManager.sync_mpesa_status

    async def watched(self: Any, bar_id: UUID, is_active: bool, **given: Any) -> Any:
        calls.append((bar_id, is_active, given.get("connection")))
        return await real(self, bar_id, is_active, **given)

    monkeypatch.setattr(MpesaSyncManager, "sync_mpesa_status", watched)
    assert (await post(site, owner, bar, mpesa_enabled=True, **NEW)).status_code == 200
    assert [(call[0], call[1], call[2] is not None) for call in calls] == [(bar, True, True)]


async def test_the_mask_posted_back_keeps_the_secrets_byte_for_byte(site: Site, sql: Any) -> None:
    """R4, K: what operators suffered: the mask saved over the secrets."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    for secrets in (MASKED, {name: "" for name in MASKED if name.startswith("mpesa_consumer")}):
        answer = await post(site, owner, bar, **{**secrets, "mpesa_enabled": True, "mpesa_environment": "production"})
        assert answer.status_code == 200, answer.json()
        row = await sql.fetchrow("select * from public.mpesa_credentials where tenant_id = $1", bar)
        assert (row["consumer_key_enc"], row["consumer_secret_enc"], row["passkey_enc"]) == SEALED


@pytest.mark.parametrize("secrets", [MASK, "", "   "], ids=["mask", "blank", "spaces"])
async def test_switching_on_with_something_missing_names_each(site: Site, sql: Any, secrets: str) -> None:
    """existing-platform.md: 400 with this very text; nothing is changed."""
    bar = await add_bar(sql)
    owner = await site.person(sql, bar)
    before = await database_hash(sql)
    answer = await post(site, owner, bar, mpesa_enabled=True, mpesa_consumer_key=secrets, mpesa_consumer_secret=secrets)
    body = answer.json()
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["error"] == "All M-Pesa credentials are required when M-Pesa is enabled"
    missing = {"mpesa_business_shortcode", "mpesa_consumer_key", "mpesa_consumer_secret", "mpesa_passkey"}
    assert {error["field"] for error in body["errors"]} == missing
    assert {detail.partition(":")[0] for detail in body["details"]} == missing
    assert (body["retryable"], body["outcome"]) == (False, "failed")
    assert await database_hash(sql) == before


async def test_who_may_do_what(site: Site, sql: Any) -> None:
    """existing-platform.md: 401, 404 that look alike, 403, in the order of checks of R4."""
    bar, other = await add_bar(sql), await add_bar(sql)
    staff = await site.person(sql, bar, role="staff")
    manager = await site.person(sql, bar, role="manager")
    operator = await site.person(sql, operator=True)
    nobody = Asker(uuid4(), "", {})
    before = await database_hash(sql)

    async def said(who: Asker, body: Any) -> tuple[int, str]:
        answer = await site.client.post(PATH, headers=who.headers, json=body)
        return answer.status_code, answer.json()["error"]

    assert await said(nobody, {}) == (401, "Not signed in")
    assert await said(manager, {}) == (400, "Bar ID is required")
    assert (await said(manager, {"barId": "x"}))[0] == 400
    absent = await said(manager, {"barId": str(uuid4()), "mpesa_enabled": "x"})
    assert absent == (404, "Bar not found")
    assert await said(manager, {"barId": str(other)}) == absent
    assert await said(operator, {"barId": str(bar)}) == absent
    assert (await said(staff, {"barId": str(bar), "mpesa_enabled": "x"}))[0] == 403
    assert (await said(manager, {"barId": str(bar), "mpesa_enabled": "x"}))[0] == 400
    assert await database_hash(sql) == before
    assert (await read(site, staff, bar))["has_credentials"] is False


async def test_a_malformed_body_comes_before_everything_else(site: Site, sql: Any) -> None:
    """R4, faults.md: 400 also for nobody; the body is never repeated."""
    canary = "zYx" + uuid4().hex
    nested = "[" * 40_000
    for raw in (
        canary,
        f'{{"{canary}',
        f'["{canary}"]',
        "",
        f'{{"a":1,"a":"{canary}"}}',
        nested,
        '{"a":NaN}',
        "\ud800",
    ):
        answer = await site.client.post(
            PATH, content=raw.encode("utf-8", "surrogatepass"), headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
        assert canary not in answer.text
    large = await site.client.post(
        PATH, content=b'{"a":"' + b"x" * 1_048_576 + b'"}', headers={"content-type": "application/json"}
    )
    assert large.status_code == 413


async def test_switching_off_needs_no_secrets(site: Site, sql: Any) -> None:
    """existing-platform.md: what operators suffered; also with two rows and a drifted flag."""
    bar = await add_bar(sql, mpesa_enabled=False, sandbox=True, production=True)
    owner = await site.person(sql, bar)
    answer = await post(site, owner, bar, mpesa_enabled=False)
    assert answer.status_code == 200, answer.json()
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (False, [])


async def test_saving_without_a_status_leaves_it_and_mends_drift(site: Site, sql: Any) -> None:
    """R4, R5.4: an omitted `mpesa_enabled` is unchanged; the flag follows the credentials."""
    hidden = await add_bar(sql, mpesa_enabled=False, production=True)
    off = await add_bar(sql, production=False)
    owner = await site.person(sql, hidden, off)
    for bar, expected in ((hidden, (True, ["production"])), (off, (False, []))):
        answer = await post(site, owner, bar, mpesa_business_shortcode="600124")
        assert answer.status_code == 200, answer.json()
        seen = await see(sql, bar)
        assert seen is not None
        assert (seen.mpesa_enabled, seen.active) == expected
        assert (await read(site, owner, bar))["mpesa_business_shortcode"] == "600124"


@pytest.mark.parametrize("table", ["public.bars", "public.mpesa_credentials", "mpesa_sync.operations"])
async def test_a_database_error_rolls_back_all_of_it(site: Site, sql: Any, table: str) -> None:
    """R4.2, P6: credentials, both fields and the audit entry; the document says whether to retry, and no secret."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    before = await database_hash(sql)
    async with injected(sql, "after update", table, "23514", times=1):
        answer = await post(site, owner, bar, mpesa_enabled=True, **{**NEW, "mpesa_passkey": "another-passkey-xyz"})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (409, "constraint_refused")
    assert (body["retryable"], body["outcome"]) == (False, "failed")
    assert UUID(body["operation_id"]).version == 4
    assert "another-passkey-xyz" not in answer.text
    assert changed_tables(before, await database_hash(sql)) <= OF_ALERTS
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (False, [])
    assert (await post(site, owner, bar, mpesa_enabled=True, **NEW)).status_code == 200


async def test_membership_is_read_again_inside_the_writing_transaction(
    site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: who lost the membership between signing in and the write, writes nothing."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    real = type(site.context.settings_service).save

    async def late(self: Any, change: Any, person: Any, **given: Any) -> Any:
        await sql.execute("delete from mpesa_sync.memberships where account_id = $1", person.id)
        return await real(self, change, person, **given)

    monkeypatch.setattr(type(site.context.settings_service), "save", late)
    answer = await post(site, owner, bar, mpesa_enabled=True)
    assert (answer.status_code, answer.json()["error"]) == (404, "Bar not found")
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (False, [])
