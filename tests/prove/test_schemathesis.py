"""Schemathesis over the OpenAPI document of a running site: no 5xx, and no answer but those that it says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, repeat
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from mpesa_sync.web.api import openapi
from tests.prove.figures import API_CASES, limit_s
from tests.support.observer import see
from tests.support.venues import add_bar
from tests.support.web import Site

pytestmark = pytest.mark.prove
CHECKED: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
OPERATIONS: Final = {
    "GET /api/mpesa-settings",
    "POST /api/mpesa-settings",
    "GET /api/operations/{operation_id}",
    "GET /api/bars/{bar}/payment-methods",
    "POST /api/bars/{bar}/payment-intents",
}
"""What is asked; the stream of events has no end and is left out."""
OF_ALERTS: Final = {
    "GET /api/alerts",
    "GET /api/alerts/{alert_id}",
    "POST /api/alerts/{alert_id}/acknowledge",
    "POST /api/alerts/{alert_id}/resolve",
}
"""What is asked with an operator's token."""
TAKE_ANY_TEXT: Final = {
    "GET /api/operations/{operation_id}",
    "GET /api/bars/{bar}/payment-methods",
    "GET /api/alerts/{alert_id}",
    "POST /api/alerts/{alert_id}/acknowledge",
}
"""All that these take is a text in the path, so nothing that could be sent is against the document."""
STREAM: Final = "/api/bars/{bar}/payment-methods/events"
_ALERTS: Final = """
insert into mpesa_sync.alerts (bar_id, kind, cause, what_to_do)
select gen_random_uuid(), 'sync_failed', 'database_busy', 'Look.' from generate_series(1, $1) returning id
"""


def attack(
    url: str, headers: dict[str, str], ids: dict[str, Iterator[str]], operations: set[str]
) -> dict[str, Counter[int]]:
    """Send the cases of every operation, well-formed and broken ones, and check every answer; return what came back.

    Arguments:
        ids: of what exists, by the name of its parameter: put in the place of every other generated one.
        operations: those that are asked.
    """
    load_all_checks()
    checks = CHECKS.get_by_names(list(CHECKED))
    schema = schemathesis.openapi.from_url(f"{url}{openapi.DOCUMENT}")
    answers: dict[str, Counter[int]] = {}
    for found in schema.exclude(path=STREAM).get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # one that cannot be read has no such method
        if operation.label not in operations:
            assert operation.label in OPERATIONS | OF_ALERTS, f"{operation.label} is asked by no test"
            continue
        counted = answers.setdefault(operation.label, Counter())
        send(operation.as_strategy(GenerationMode.POSITIVE), url, headers, ids, checks, counted)
        if operation.label not in TAKE_ANY_TEXT:
            send(operation.as_strategy(GenerationMode.NEGATIVE), url, headers, ids, checks, counted)
    return answers


def send(
    cases: Any, url: str, headers: dict[str, str], ids: dict[str, Iterator[str]], checks: Any, counted: Counter[int]
) -> None:
    """Send the cases of one operation, one way; every second one is about something that there is."""
    number = 0

    @settings(
        max_examples=API_CASES,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(case=cases)
    def one(case: Any) -> None:
        nonlocal number
        number += 1
        if number % 2:
            aim(case, ids)
        with requests.Session() as session:
            answer = case.call_and_validate(base_url=url, session=session, headers=headers, checks=checks)
        counted[answer.status_code] += 1

    one()


def aim(case: Any, ids: dict[str, Iterator[str]]) -> None:
    """Let a generated case be about something that exists."""
    if isinstance(case.body, dict) and "barId" in case.body:
        case.body["barId"] = next(ids["barId"])
    for place in (case.query, case.path_parameters):
        for name, values in ids.items():
            if place is not None and name in place:
                place[name] = next(values)


@pytest.mark.timeout(limit_s(900))
async def test_no_generated_request_is_answered_otherwise_than_the_document_says(site: Site, sql: Any) -> None:
    """Issue 3: 200 cases per operation, well-formed and broken, with an owner's token: no 5xx, answers as documented.

    Red when an answer is not in the document, when a status is not listed, and
    when anything that is sent makes the server fail.
    """
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    body = {"barId": str(bar), "mpesa_enabled": False}
    saved = await site.client.post("/api/mpesa-settings", headers=owner.headers, json=body)
    ids: dict[str, Iterator[str]] = {
        "barId": repeat(str(bar)),
        "bar": repeat(str(bar)),
        "operation_id": repeat(saved.json()["operation_id"]),
    }
    answers = await asyncio.to_thread(attack, site.url, owner.headers, ids, OPERATIONS)
    expect_sound(answers, OPERATIONS)
    seen = await see(sql, bar)
    assert seen is not None
    assert not seen.drifted


@pytest.mark.timeout(limit_s(900))
async def test_no_request_about_alerts_is_answered_otherwise_than_the_document_says(site: Site, sql: Any) -> None:
    """Issue 4, R5.2: the same for what operators ask, with an operator's token."""
    operator = await site.person(sql, operator=True)
    bar = await add_bar(sql)
    alerts = [str(record["id"]) for record in await sql.fetch(_ALERTS, 4 * API_CASES)]
    ids = {"bar": repeat(str(bar)), "alert_id": iter(cycle(alerts))}
    answers = await asyncio.to_thread(attack, site.url, operator.headers, ids, OF_ALERTS)
    expect_sound(answers, OF_ALERTS)


def expect_sound(answers: dict[str, Counter[int]], operations: set[str]) -> None:
    """Fail where an operation was not asked enough, hardly ever got through, or made the server fail."""
    assert answers.keys() == operations
    for operation, counted in answers.items():
        print(operation, dict(counted))
        assert sum(counted.values()) >= API_CASES, operation
        assert counted[200] >= API_CASES // 20, f"{operation}: hardly anything got through"
        assert not any(status >= 500 for status in counted)
