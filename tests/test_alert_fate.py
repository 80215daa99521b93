"""What an alert says beside itself: what became of the change that it is about, and who or what resolved it (R5.2)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import pytest

from mpesa_sync.cli.alert_report import shown
from mpesa_sync.db import alerts
from mpesa_sync.db.pool import Database
from mpesa_sync.jobs.words import for_operators, moment
from mpesa_sync.refusals import AlertClosed
from mpesa_sync.sync import alert_actions, alert_words
from mpesa_sync.sync.alert_kinds import AlertKind
from tests.support.alerts import raised
from tests.support.occurrences import NOON
from tests.support.overview import operator, seen
from tests.support.venues import add_bar
from tests.support.web import Site
from tests.test_api_alerts import PATH
from tests.test_operator_page import PATH as PAGE
from tests.test_operator_page import words

_OPERATION: Final = """
insert into mpesa_sync.operations (id, kind, bar_id, actor, request, outcome, started_at)
values ($1, 'switch', $2, 'a', '{}', $3, '2026-11-24 11:58+00')
"""


async def test_an_alert_says_what_became_of_its_change(site: Site, db: Database, sql: Any) -> None:
    """R5.2, "verify": applied and when, given up for good, or nothing stored, which proves nothing; as the API says it.

    Of a kind that is known to have saved nothing, nothing stored is no doubt.
    """
    bar, operator = await add_bar(sql, production=False), await site.person(sql, operator=True)
    owner = await site.person(sql, bar)
    alert = await raised(db, bar, AlertKind.OUTCOME_UNKNOWN, cause="outcome_unknown")

    async def found() -> Any:
        one = (await site.client.get(f"{PATH}/{alert}", headers=operator.headers)).json()
        asked = await site.client.get(f"/api/operations/{one['operation_id']}", headers=operator.headers)
        return one["operation"], asked.json().get("outcome"), asked.status_code

    nothing, _, status = await found()
    assert (nothing["outcome"], nothing["at"], status) == ("unknown", None, 404)
    assert "proves nothing" in nothing["text"]
    body = {"barId": str(bar), "mpesa_enabled": True}
    saved = (await site.client.post("/api/mpesa-settings", headers=owner.headers, json=body)).json()["operation_id"]
    for number, outcome in ((saved, "applied"), (uuid4(), "failed")):
        if outcome == "failed":
            await sql.execute(_OPERATION, number, bar, outcome)
        await sql.execute("update mpesa_sync.alerts set operation_id = $1", number)
        operation, asked, _ = await found()
        assert (operation["outcome"], asked) == (outcome, outcome)
        assert datetime.fromisoformat(operation["at"]).tzinfo


async def test_a_page_says_what_became_of_the_change(site: Site, db: Database, sql: Any) -> None:
    """R5.2, "verify": beside what to do, in words; nothing of an alert that is about no change."""
    bar, who = await add_bar(sql), await operator(site, sql)
    alert = await raised(db, bar, AlertKind.OUTCOME_UNKNOWN, cause="outcome_unknown")
    page = await seen(site, who, f"{PAGE}/{alert}")
    assert page.text("fate").startswith("What became of the change")
    assert "Nothing is stored of it. That proves nothing" in page.text("fate")
    operation = await sql.fetchval("select operation_id from mpesa_sync.alerts")
    await sql.execute(_OPERATION, operation, bar, "applied")
    page = await seen(site, who, f"{PAGE}/{alert}")
    assert "It was saved. 24 Nov 2026, 11:58 UTC" in page.text("fate")
    await sql.execute("update mpesa_sync.alerts set operation_id = null")
    assert "What became" not in words(await seen(site, who, f"{PAGE}/{alert}"))


async def test_what_resolved_an_alert_is_said_in_words(site: Site, db: Database, sql: Any) -> None:
    """R5.2: no code of ours on the page, in a message or in a refusal; one function for all of them."""
    who, alert = await operator(site, sql), await raised(db, None, AlertKind.CHANNEL_FAILING)
    await alert_actions.resolve(db, alert, actor="operator:asha")
    for by, said in (
        ("operator:asha", "asha (operator)"),
        ("cli:juma", "juma (command line)"),
        ("staff:wanjiru", "wanjiru"),
        (f"user:{uuid4()}", "a user of the platform"),
        (f"operation:{uuid4()}", "a change that was saved and read back"),
        ("channel:slack-3fa2", "a channel that works again"),
        (alert_words.NONE_FAILING, "itself, since no channel that is still used fails"),
        ("nightly", "nightly"),
    ):
        await sql.execute("update mpesa_sync.alerts set resolved_by = $1", by)
        page = await seen(site, who, f"{PAGE}/{alert}")
        assert f"Resolved by {said}, " in words(page)
        with pytest.raises(AlertClosed, match=f"was resolved by {re.escape(said)} at 2"):
            await alert_actions.acknowledge(db, alert, actor="operator:x")
        async with db.reading() as connection:
            found = await alerts.find(connection, alert)
        assert found is not None
        message = for_operators(found, "resolved", 0, None)
        assert f"Resolved {moment(found.resolved_at or NOON)} by {said}." in message.body
        report = " ".join("\n".join(shown(found, None, [], public_url=None)).split())
        assert f"by {said} Id" in report
