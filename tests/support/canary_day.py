"""What is done on the day of the canaries: signing in, saving well and badly, looking, operating, telling."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.identity import accounts
from mpesa_sync.identity.people import Role
from mpesa_sync.secret import Secret
from mpesa_sync.sync import venue_channels
from mpesa_sync.web.auth import COOKIE, CSRF_HEADER
from tests.support.browsing import with_session
from tests.support.canary import Day, canary, in_a_path
from tests.support.channels import Endpoints, working
from tests.support.web import Site

API: Final = "/api/mpesa-settings"
HTML: Final = {"accept": "text/html"}


async def sign_in(day: Day, site: Site, bar: UUID, known: list[str]) -> dict[str, str]:
    """Sign in, wrongly and rightly; return the headers of the browser, its form's token among them."""
    password, wrong = canary(), canary()
    known += [password, wrong]
    await accounts.add(site.context.database, "asha", Secret(password), memberships={bar: Role.OWNER})
    for tried in (wrong, password):
        form = {"name": "asha", "password": tried, "to": "/staff"}
        answer = await day.ask("POST", "/staff/sign-in", data=form, headers=HTML)
    await day.ask("POST", "/staff/sign-in", data={"name": "nobody", "password": wrong}, headers=HTML)
    token = answer.headers["set-cookie"].partition(f"{COOKIE}=")[2].partition(";")[0]
    known.append(token)
    page = await day.ask("GET", f"/staff/bars/{bar}/mpesa", headers={"cookie": f"{COOKIE}={token}"})
    csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    return {"cookie": f"{COOKIE}={token}", CSRF_HEADER: csrf, **HTML}


async def saves(day: Day, bar: UUID, browser: dict[str, str], bearer: dict[str, str], known: list[str]) -> None:
    """Save in every way, well and badly: by API and form, secrets in the wrong place, broken bodies."""
    good = {f"mpesa_{name}": canary() for name in ("consumer_key", "consumer_secret", "passkey")}
    bad = {name: f"{canary()} \u200b{canary()}" for name in good}
    lost = canary()
    known += [*good.values(), *(word for value in bad.values() for word in value.split(" \u200b")), lost]
    base: dict[str, Any] = {"barId": str(bar), "mpesa_environment": "production", "mpesa_business_shortcode": "600123"}
    bodies: list[dict[str, Any]] = [
        {**base, **good, "mpesa_enabled": True},
        {**base, **bad, "mpesa_enabled": True},
        {**base, **good, "mpesa_business_shortcode": lost, "mpesa_environment": lost, "mpesa_enabled": lost},
        {**base, **good, "mpesa_till_number": lost, "mpesa_account_type": lost, "mpesa_unknown": lost},
        {**base, "mpesa_passkey": [lost], "mpesa_consumer_key": {lost: lost}},
        {**base, "barId": lost},
        {**base, "mpesa_passkey": lost * 3_000},
    ]
    for body in bodies:
        key = in_a_path()
        known.append(key)
        answer = await day.ask("POST", API, json=body, headers={**bearer, "idempotency-key": key})
        if operation := answer.json().get("operation_id"):
            await day.ask("GET", f"/api/operations/{operation}", headers=bearer)
        # The page shows again what was typed, but for secrets: what stands in a field for numbers is taken for none.
        form = {name: str(value) for name, value in body.items() if name in good or lost not in str(value)}
        form["csrf"] = browser[CSRF_HEADER]
        await day.ask("POST", f"/staff/bars/{bar}/mpesa", data=form, headers=browser)
        await day.ask("POST", f"/staff/bars/{bar}/mpesa", data={**form, "csrf": lost}, headers=browser)
        await day.ask("POST", API, json=body, headers={**browser, CSRF_HEADER: lost})
    as_json = {**bearer, "content-type": "application/json"}
    for raw in (f'{{"mpesa_passkey":"{lost}",', f'["{lost}"]', f'{{"{lost}":1,"{lost}":2}}', lost, f'"\\ud8{lost}'):
        await day.ask("POST", API, content=raw, headers=as_json)
        await day.ask("POST", f"/staff/bars/{bar}/mpesa", content=raw, headers=browser)
        await day.ask("POST", f"/staff/bars/{bar}/mpesa/switch", data={"csrf": lost, "x": raw}, headers=browser)
    for wrong in (f"Bearer {lost}", f"Basic {lost}", lost, f"Bearer {bearer['authorization'][7:]}x"):
        await day.ask("GET", API, params={"barId": str(bar)}, headers={"authorization": wrong})


async def looks(day: Day, bar: UUID, browser: dict[str, str], bearer: dict[str, str]) -> None:
    """Read every page and every address."""
    for path in (f"/menu/{bar}", "/staff", f"/staff/bars/{bar}/mpesa", f"/staff/bars/{bar}/mpesa/status", "/nothing"):
        await day.ask("GET", path, headers=browser)
    for path in (f"/api/bars/{bar}/payment-methods", "/api/openapi.json", "/livez", "/readyz", "/metrics"):
        await day.ask("GET", path)
    await day.ask("GET", API, params={"barId": str(bar)}, headers=bearer)
    async with day.client.stream("GET", f"/api/bars/{bar}/payment-methods/events") as answer:
        day.said["the stream of a page"].append(f"{answer.headers} {await anext(answer.aiter_text())}")


async def operates(day: Day, site: Site, sql: Any, known: list[str]) -> None:
    """Be an operator: every alert by API and page, acknowledged and resolved, with what must not be repeated."""
    operator = await site.person(sql, operator=True)
    visitor, lost = await with_session(site, operator, operator=True), canary()
    known += [lost, operator.headers["authorization"].removeprefix("Bearer "), visitor.headers["cookie"][-43:]]
    browser = {**visitor.headers, CSRF_HEADER: visitor.csrf, **HTML}
    await day.ask("GET", "/api/alerts", headers=operator.headers)
    await day.ask("GET", "/operator", headers=browser)
    for bar in await sql.fetch("select id from public.bars"):
        await day.ask("GET", f"/operator/bars/{bar['id']}", headers=browser)
    await day.ask("GET", "/operator/alerts", headers=browser)
    for alert in [str(record["id"]) for record in await sql.fetch("select id from mpesa_sync.alerts")]:
        await day.ask("GET", f"/api/alerts/{alert}", headers=operator.headers)
        await day.ask("GET", f"/operator/alerts/{alert}", headers=browser)
        await day.ask("POST", f"/api/alerts/{alert}/acknowledge", headers=operator.headers)
        await day.ask("POST", f"/operator/alerts/{alert}/acknowledge", data={"csrf": visitor.csrf}, headers=browser)
        await day.ask("POST", f"/operator/alerts/{alert}/resolve", data={"csrf": lost}, headers=browser)
        await day.ask("POST", f"/api/alerts/{alert}/resolve", json={"note": [lost]}, headers=operator.headers)
    await day.ask("GET", "/runbook/sync_failed", headers=HTML)


async def fails(day: Day, database: Database, bar: UUID) -> None:
    """Let a program's own call fail, and keep the traceback as any program would print it."""
    try:
        await MpesaSyncManager(database).sync_mpesa_status(bar, False, actor="a program", operation_id=uuid4())
    except MpesaSyncError as error:
        day.said["tracebacks"].append("".join(traceback.format_exception(error)) + repr(error) + repr(error.result))
    else:
        raise AssertionError("it did not fail")


@dataclass
class Channels:
    """Where alerts are told, by addresses with a secret in each."""

    there: Endpoints
    operators: str
    owner: str

    async def told(self, day: Day, site: Site, url: str, bar: UUID) -> None:
        """Let the background jobs tell every alert to operators and to the owner."""
        await venue_channels.set_channel(site.context.database, bar, self.there.url(self.owner), actor="operator:x")
        async with working(site.context.database, url, self.there.url(self.operators)):
            await self.there.has(self.operators)
            await self.there.has(self.owner)
        day.heard(self.there, operators=self.operators, **{"the owner": self.owner})
