"""A 200 means stored and read back, in the very transaction that asked whether this person may write (R4.3, R1)."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.identity import membership
from tests.support.observer import OF_ALERTS, changed_tables, database_hash, see
from tests.support.venues import KEYS, add_bar
from tests.support.web import Site

PATH: Final = "/api/mpesa-settings"
PASSKEY: Final = "another-passkey-9f2c"
_WROTE: Final = "select xmin::text::bigint from mpesa_sync.operations where bar_id = $1 and kind = 'settings'"
_AS: Final = "create function public.meddle() returns trigger language plpgsql as $$ begin {} end $$; {}"
MEDDLERS: Final = {
    "the flag is set back": (
        "new.mpesa_enabled := old.mpesa_enabled; return new;",
        "create trigger meddle before update on public.bars for each row execute function public.meddle()",
    ),
    "the status is set back": (
        "new.is_active := old.is_active; return new;",
        "create trigger meddle before update on public.mpesa_credentials for each row execute function public.meddle()",
    ),
    "the new secrets are dropped": (
        "new.passkey_enc := old.passkey_enc; return new;",
        "create trigger meddle before update on public.mpesa_credentials for each row execute function public.meddle()",
    ),
    "the whole change is dropped": (
        "return null;",
        "create trigger meddle before update on public.mpesa_credentials for each row execute function public.meddle()",
    ),
    "another number is kept": (
        "new.business_shortcode := '999999'; return new;",
        "create trigger meddle before update on public.mpesa_credentials for each row execute function public.meddle()",
    ),
    "customers are shown the opposite": (
        "update public.bars set mpesa_enabled = not mpesa_enabled where id = new.tenant_id; return new;",
        "create trigger meddle after update of business_shortcode on public.mpesa_credentials "
        "for each row execute function public.meddle()",
    ),
}
"""Triggers of the platform that let a write pass and make something else of it, without any error."""


@pytest.mark.parametrize("meddler", MEDDLERS, ids=lambda name: name.replace(" ", "-"))
async def test_what_a_trigger_makes_something_else_of_is_no_success(site: Site, sql: Any, meddler: str) -> None:
    """R4.3: operators suffered "success" with nothing saved. A 200 means stored as posted, a 500 that nothing was.

    Red when a POST answers 200 without reading back: flags, number or secrets.
    """
    body, trigger = MEDDLERS[meddler]
    bars = [await add_bar(sql, production=on, mpesa_enabled=on) for on in (False, False, True, True)]
    owner = await site.person(sql, *bars)
    await sql.execute(_AS.format(body, trigger))
    new = {"mpesa_environment": "production", "mpesa_business_shortcode": "600777", "mpesa_passkey": PASSKEY}
    statuses = []
    for bar, change in zip(bars, ({"mpesa_enabled": True}, {}, {"mpesa_enabled": False}, {}), strict=True):
        before = await database_hash(sql)
        answer = await site.client.post(PATH, headers=owner.headers, json={"barId": str(bar), **new, **change})
        statuses.append(answer.status_code)
        if answer.status_code == 200:
            await stored(sql, bar, on=change.get("mpesa_enabled", bar in bars[2:]))
            continue
        assert (answer.status_code, answer.json()["outcome"]) == (500, "failed")
        assert changed_tables(before, await database_hash(sql)) <= OF_ALERTS
    assert 500 in statuses, "nothing was meddled with"


async def stored(sql: Any, bar: UUID, *, on: bool) -> None:
    """All of it is stored as posted."""
    row = await sql.fetchrow("select * from public.mpesa_credentials where tenant_id = $1", bar)
    assert row["business_shortcode"] == "600777"
    assert open_stored(KEYS, row["passkey_enc"]).secret.reveal() == PASSKEY
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, bool(seen.active)) == (on, on)


async def test_membership_is_read_in_the_very_transaction_that_writes(
    site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: not before it: the transaction that asked is the one whose id stands in the rows that were written."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    asked: list[int] = []
    real = membership.require

    async def watched(connection: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(await connection.fetchval("select pg_current_xact_id()::text::bigint % (2^32)::bigint"))
        return await real(connection, *arguments, **options)

    monkeypatch.setattr(membership, "require", watched)
    answer = await site.client.post(PATH, headers=owner.headers, json={"barId": str(bar), "mpesa_enabled": True})
    assert answer.status_code == 200
    assert set(asked) == {await sql.fetchval(_WROTE, bar)}
