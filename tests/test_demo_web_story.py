"""The story's steps over HTTP turn red when the product is wrong, and leave the venues as they found them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import pytest

from mpesa_sync.demo import story
from mpesa_sync.demo.browser import Browser
from mpesa_sync.demo.stage import Stage
from mpesa_sync.demo.story import STEPS
from mpesa_sync.domain import availability
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import NotAllowed
from mpesa_sync.identity import membership
from mpesa_sync.live.delivery import Streams
from mpesa_sync.migration.service import MpesaMigrationService
from mpesa_sync.sync.settings_service import SettingsSaved, SettingsService
from mpesa_sync.web import auth
from tests.support.demo import staged
from tests.support.observer import see_all

OVER_HTTP: Final = (
    "sign-in",
    "save-form",
    "save-api",
    "save-rejected",
    "rollback-http",
    "streamed",
    "without-script",
    "foreign-bar",
)


@pytest.fixture
async def stage(database_url: str, sql: Any) -> AsyncIterator[Stage]:
    """The stage as the steps over HTTP find it: migrated, and served."""
    async with staged(database_url, sql) as found:
        await MpesaMigrationService(found.database).run()
        yield found


async def failed(stage: Stage, *steps: str) -> list[str]:
    """Play steps, all of those over HTTP where none is named; return the ids of those that did not hold."""
    chosen = [step for step in STEPS if step.id in (steps or OVER_HTTP)]
    return [step.id for step in await story.play(stage, chosen) if not step.ok]


async def test_all_of_them_hold_and_leave_the_venues_in_sync(stage: Stage, sql: Any) -> None:
    """Issue 3: sign in, save, refusals, rollback, frames, the page without JavaScript; twice in a row."""
    for _ in range(2):
        assert await failed(stage) == []
        assert not any(seen.drifted for seen in (await see_all(sql)).values())
    assert await sql.fetchval("select count(*) from mpesa_sync.accounts") == 2, "hers and the operator's"


async def test_a_save_that_only_says_so_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """R4.3: the steps read the database, not the answer."""

    async def lies(
        self: Any, change: SettingsChange, person: Any, *, operation_id: Any = None, **_: Any
    ) -> SettingsSaved:
        return SettingsSaved(
            operation_id=operation_id or uuid4(),
            bar_id=change.bar_id,
            enabled=bool(change.enabled),
            environment="production",
            credentials_updated=True,
            bar_status_updated=True,
            stored=("passkey",),
            changed=True,
        )

    monkeypatch.setattr("mpesa_sync.demo.live_story._PROMISED_S", 2.0)
    monkeypatch.setattr(SettingsService, "save", lies)
    red = await failed(stage)
    assert {"save-form", "save-api", "save-rejected", "rollback-http", "streamed"} <= set(red)
    assert "without-script" not in red


async def test_a_rule_that_offers_drifted_bars_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3.4, spec 2: drift is never offered."""
    real = availability.hidden_reason
    drift = (availability.Reason.DRIFT_EXPOSED, availability.Reason.DRIFT_HIDDEN)

    def lax(*facts: Any, **given: Any) -> Any:
        reason = real(*facts, **given)
        return None if reason in drift else reason

    monkeypatch.setattr("mpesa_sync.demo.live_story._PROMISED_S", 2.0)
    monkeypatch.setattr(availability, "hidden_reason", lax)
    assert await failed(stage, "streamed", "without-script") == ["streamed", "without-script"]


async def test_a_feed_that_stays_silent_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3.2: a change that does not reach the open page."""
    monkeypatch.setattr("mpesa_sync.demo.live_story._PROMISED_S", 1.0)
    monkeypatch.setattr(Streams, "publish", lambda self, entry: None)
    assert await failed(stage, "streamed") == ["streamed"]


async def test_forms_of_another_session_are_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 3: a CSRF token that is not looked at."""
    monkeypatch.setattr(auth, "require_csrf", lambda request, session, posted: None)
    assert await failed(stage, "sign-in") == ["sign-in"]


async def test_a_password_that_is_not_looked_at_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 3: signing in with the wrong password."""

    async def anything(_hash: Any, _password: Any) -> bool:
        return True

    monkeypatch.setattr("mpesa_sync.identity.passwords.matches", anything)
    assert await failed(stage, "sign-in") == ["sign-in"]


async def test_a_bar_of_others_that_can_be_told_apart_is_found_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: 403 for a bar of others and 404 for none would tell which bars there are."""
    real = membership.require

    async def tells(connection: Any, person: Any, bar_id: Any, *, to_write: bool) -> Any:
        there = await connection.fetchval("select true from public.bars where id = $1", bar_id)
        if there and await membership.role_of(connection, person, bar_id) is None:
            raise NotAllowed("Not yours")
        return await real(connection, person, bar_id, to_write=to_write)

    monkeypatch.setattr(membership, "require", tells)
    assert await failed(stage, "foreign-bar") == ["foreign-bar"]


async def test_a_secret_on_the_page_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec 7: the story looks for what it has typed in what it gets back."""
    typed: list[str] = []
    real_form, real_get = Browser.post_form, Browser.get

    async def watched(self: Browser, path: str, fields: Any, **headers: str) -> Any:
        typed.extend(fields[name] for name in ("mpesa_passkey",) if name in fields)
        return await real_form(self, path, fields, **headers)

    async def leaks(self: Browser, path: str, **headers: str) -> Any:
        answer = await real_get(self, path, **headers)
        return replace(answer, body=answer.body + " ".join(typed).encode()) if typed else answer

    monkeypatch.setattr(Browser, "post_form", watched)
    monkeypatch.setattr(Browser, "get", leaks)
    assert await failed(stage, "save-form") == ["save-form"]


async def test_a_story_that_is_not_served_is_red(stage: Stage) -> None:
    """Nothing over HTTP can be claimed without a server."""
    stage.site = None
    assert await failed(stage) == list(OVER_HTTP)
