"""Schemathesis over the OpenAPI document of a running site: no 5xx, and no answer but those that it says."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any, Final
from uuid import UUID

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from mpesa_sync.web.api import openapi
from tests.support.observer import see
from tests.support.venues import add_bar
from tests.support.web import Site

pytestmark = pytest.mark.prove
CASES: Final = int(os.environ.get("MPESA_SYNC_PROVE_CASES", "200"))
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
}
"""What is asked; the stream of events has no end and is left out."""
TAKE_ANY_TEXT: Final = {"GET /api/operations/{operation_id}", "GET /api/bars/{bar}/payment-methods"}
"""All that these take is a text in the path, so nothing that could be sent is against the document."""
STREAM: Final = "/api/bars/{bar}/payment-methods/events"


def attack(url: str, headers: dict[str, str], ids: dict[str, str]) -> dict[str, Counter[int]]:
    """Send the cases of every operation, well-formed and broken ones, and check every answer; return what came back.

    Arguments:
        ids: of a bar and an operation that exist: put in the place of every other generated one.
    """
    load_all_checks()
    checks = CHECKS.get_by_names(list(CHECKED))
    schema = schemathesis.openapi.from_url(f"{url}{openapi.DOCUMENT}")
    answers: dict[str, Counter[int]] = {}
    for found in schema.exclude(path=STREAM).get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # one that cannot be read has no such method
        counted = answers.setdefault(operation.label, Counter())
        send(operation.as_strategy(GenerationMode.POSITIVE), url, headers, ids, checks, counted)
        if operation.label not in TAKE_ANY_TEXT:
            send(operation.as_strategy(GenerationMode.NEGATIVE), url, headers, ids, checks, counted)
    return answers


def send(
    cases: Any, url: str, headers: dict[str, str], ids: dict[str, str], checks: Any, counted: Counter[int]
) -> None:
    """Send the cases of one operation, one way; every second one is about a bar that there is."""
    number = 0

    @settings(
        max_examples=CASES,
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


def aim(case: Any, ids: dict[str, str]) -> None:
    """Let a generated case be about something that exists."""
    if isinstance(case.body, dict) and "barId" in case.body:
        case.body["barId"] = ids["bar"]
    for place in (case.query, case.path_parameters):
        for name, value in (("barId", ids["bar"]), ("bar", ids["bar"]), ("operation_id", ids["operation"])):
            if place is not None and name in place:
                place[name] = value


@pytest.mark.timeout(900)
async def test_no_generated_request_is_answered_otherwise_than_the_document_says(site: Site, sql: Any) -> None:
    """Issue 3: 200 cases per operation, well-formed and broken, with an owner's token: no 5xx, answers as documented.

    `MPESA_SYNC_PROVE_CASES` for more. Red when an answer is not in the document, when a status is not listed, and
    when anything that is sent makes the server fail.
    """
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    body = {"barId": str(bar), "mpesa_enabled": False}
    saved = await site.client.post("/api/mpesa-settings", headers=owner.headers, json=body)
    ids = {"bar": str(bar), "operation": saved.json()["operation_id"]}
    answers = await asyncio.to_thread(attack, site.url, owner.headers, ids)
    assert answers.keys() == OPERATIONS
    for operation, counted in answers.items():
        print(operation, dict(counted))
        assert sum(counted.values()) >= CASES, operation
        assert counted[200] >= CASES // 20, f"{operation}: hardly anything got through"
        assert not any(status >= 500 for status in counted)
    seen = await see(sql, UUID(ids["bar"]))
    assert seen is not None
    assert not seen.drifted
