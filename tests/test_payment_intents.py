"""POST payment-intents over HTTP: the answer is the database's of this moment, in words for customers, or a refusal."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid4

import httpx

from mpesa_sync.db.pool import connect
from mpesa_sync.demo.proxy import TcpProxy
from tests.support import web
from tests.support.browsing import choices_on
from tests.support.observer import database_hash
from tests.support.pages import Page
from tests.support.venues import KEY, add_bar
from tests.support.web import OTHER_SITES, Site

METHODS: Final = ("mpesa", "card", "cash")
CODES: Final = ("paused", "inactive", "credential", "drift", "switched", "sandbox", "secret", "malformed", "rejected")
"""Words of the reasons for staff (spec 2)."""
QUIETLY_OFF: Final = """
alter table public.bars disable trigger mpesa_sync_notice_update;
"""
_FLAGS: Final = "update public.bars set payment_card_enabled = $2, payment_cash_enabled = $3 where id = $1"


async def ask(site: Site, bar: UUID | str, body: Any, **headers: str) -> httpx.Response:
    """Ask with a JSON body, or with these very bytes."""
    sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    return await site.client.post(f"/api/bars/{bar}/payment-intents", headers=headers, **sent)


async def post_form(site: Site, bar: UUID | str, **fields: str) -> httpx.Response:
    """Post the form of the customers' page, as a browser without JavaScript does."""
    headers = {"accept": "text/html", "origin": site.url, "sec-fetch-site": "same-origin"}
    return await site.client.post(f"/menu/{bar}", data=fields, headers=headers)


async def test_every_method_is_answered_as_the_rule_says_with_words_for_customers(site: Site, sql: Any) -> None:
    """Issue 6, R3.3: allowed exactly where payment-methods offers it, by id and by slug; no code for staff in it."""
    cases = [
        (await add_bar(sql, mpesa_enabled=True, production=True), True, True),
        (await add_bar(sql, mpesa_enabled=True, production=False), True, False),
        (await add_bar(sql, mpesa_enabled=False, production=True), False, True),
        (await add_bar(sql, mpesa_enabled=True, production=True, active=False), True, True),
        (await add_bar(sql, mpesa_enabled=True, production=True, sealed=(b"", b"", b"")), False, False),
    ]
    seen = []
    for bar, card, cash in cases:
        await sql.execute(_FLAGS, bar, card, cash)
        offer = (await site.client.get(f"/api/bars/{bar}/payment-methods")).json()
        offered = [method["id"] for method in offer["methods"]]
        for method in METHODS:
            answer = await ask(site, bar.hex, {"method": method, "phone": "0712 345 678", "amount": 1250})
            said = answer.json()
            assert answer.status_code == 200, said
            assert said["allowed"] is (method in offered), (offered, said)
            assert (said["method"], said["version"], said["methods"]) == (method, offer["version"], offer["methods"])
            assert said["bar"] == offer["bar"]
            assert said.get("closed", False) is (bar == cases[3][0])
            assert not [code for code in CODES if code in said["reason"].lower()], said
            assert answer.headers["cache-control"] == "no-store"
            seen.append(said["allowed"])
    assert {True, False} == set(seen)


async def test_the_database_is_asked_and_not_the_memory(site: Site, sql: Any) -> None:
    """Issue 6: a change that no notice told is not known to the pages yet, and is to whoever wants to pay."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    offered = (await site.client.get(f"/api/bars/{bar}/payment-methods")).json()["methods"]
    assert [method["id"] for method in offered] == ["mpesa", "cash"]
    await sql.execute(QUIETLY_OFF)
    await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
    stale = (await site.client.get(f"/api/bars/{bar}/payment-methods")).json()["methods"]
    assert [method["id"] for method in stale] == ["mpesa", "cash"], "the memory knew: this test proves nothing"
    said = (await ask(site, bar, {"method": "mpesa"})).json()
    assert said["allowed"] is False
    assert said["reason"] == "M-Pesa is not possible here right now. Possible: Cash."
    await sql.execute("update public.bars set mpesa_enabled = true where id = $1", bar)
    page = await post_form(site, bar, method="mpesa")
    assert "Yes, M-Pesa works here now." in Page(page.text).text("answer")


WRONG: Final[list[tuple[Any, dict[str, str]]]] = [
    ({}, {"method": "missing"}),
    ({"method": ""}, {"method": "missing"}),
    ({"method": "bitcoin"}, {"method": "unknown"}),
    ({"method": ["mpesa"]}, {"method": "unknown"}),
    ({"method": "mpesa", "phone": "12"}, {"phone": "malformed"}),
    ({"method": "mpesa", "phone": 254712345678}, {"phone": "malformed"}),
    ({"method": "mpesa", "phone": "+255712345678"}, {"phone": "malformed"}),
    ({"method": "mpesa", "phone": "0812345678"}, {"phone": "malformed"}),
    ({"method": "mpesa", "phone": "٠٧١٢٣٤٥٦٧٨"}, {"phone": "malformed"}),
    ({"method": "mpesa", "amount": 0}, {"amount": "malformed"}),
    ({"method": "mpesa", "amount": 150_001}, {"amount": "malformed"}),
    ({"method": "mpesa", "amount": True}, {"amount": "malformed"}),
    ({"method": "mpesa", "amount": "100"}, {"amount": "malformed"}),
    ({"method": "mpesa", "amount": 12.5}, {"amount": "malformed"}),
    ({"method": None, "phone": "x", "amount": -1}, {"method": "missing", "phone": "malformed", "amount": "malformed"}),
]


async def test_what_is_wrong_is_named_with_its_remedy_and_not_repeated(site: Site, sql: Any) -> None:
    """R4.4's manner: every wrong field at once, what to do about it, and nothing of what was sent."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    for body, wrong in WRONG:
        answer = await ask(site, bar, body)
        said = answer.json()
        assert answer.status_code == 400, body
        assert answer.headers["content-type"] == "application/problem+json"
        assert {one["field"]: one["code"] for one in said["errors"]} == wrong, body
        assert all(one["message"].endswith(".") for one in said["errors"]), body
        assert (said["code"], said["retryable"]) == ("invalid_payment", False)
        for value in body.values():
            assert isinstance(value, bool | list | None) or len(str(value)) < 3 or str(value) not in answer.text


async def test_bodies_are_bounded_and_must_be_one_json_object(site: Site, sql: Any) -> None:
    """Issue 6: bodies bounded; what else than the question is refused by name, forms of other sites as well."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    for body, status, code in (
        (b"x" * 70_000, 413, "body_too_large"),
        (b"{", 400, "malformed_body"),
        (b'["mpesa"]', 400, "malformed_body"),
        (b'{"method": "cash", "method": "mpesa"}', 400, "malformed_body"),
        ({"method": "cash", "pin": "1234"}, 400, "invalid_input"),
    ):
        answer = await ask(site, bar, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert "1234" not in answer.text
    form = await ask(site, bar, b"method=mpesa", **{"content-type": "application/x-www-form-urlencoded"})
    text = await ask(site, bar, b'{"method": "mpesa"}', **{"content-type": "text/plain"})
    assert (form.status_code, text.status_code) == (400, 400)


async def test_an_unknown_bar_is_404(site: Site) -> None:
    """Spec 6: by id and slug, as everywhere."""
    for bar in (uuid4(), "nobody", "%00", "x" * 600):
        assert (await ask(site, str(bar), {"method": "cash"})).status_code == 404
        page = await post_form(site, str(bar), method="cash")
        assert page.status_code == 404
        assert "There is no such venue" in page.text


async def test_another_site_cannot_ask_through_somebodys_browser(site: Site, sql: Any) -> None:
    """Issue 6: nobody is known here, so no token is needed; other sites are refused all the same, programs are not."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    for headers in OTHER_SITES:
        answer = await ask(site, bar, {"method": "mpesa"}, **headers)
        page = await site.client.post(f"/menu/{bar}", data={"method": "mpesa"}, headers=headers)
        assert (answer.status_code, page.status_code) == (403, 403), headers
        assert answer.json()["code"] in ("forged_request", "origin_not_allowed"), headers
    own = {"sec-fetch-site": "same-origin", "origin": site.url}
    assert (await ask(site, bar, {"method": "mpesa"}, **own)).status_code == 200
    assert (await ask(site, bar, {"method": "mpesa"})).status_code == 200


async def test_asking_writes_nothing(site: Site, sql: Any) -> None:
    """Issue 6: only the question; a phone number is stored nowhere."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    before = await database_hash(sql)
    await ask(site, bar, {"method": "mpesa", "phone": "0712345678", "amount": 5})
    await post_form(site, bar, method="mpesa", phone="0712345678", amount="5")
    assert await database_hash(sql) == before


async def test_where_the_database_cannot_answer_nothing_is_allowed(database_url: str, sql: Any) -> None:
    """Spec 2, fail closed: 503 and worth trying again, for what was in memory a moment ago too; the page says cash."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    async with TcpProxy.before(database_url) as proxy:
        url = proxy.url_for(database_url)
        async with connect(url, kms_keys=[KEY]) as database, web.running(database, url) as site:
            assert (await ask(site, bar, {"method": "mpesa"})).json()["allowed"] is True
            proxy.black_hole()
            for method in METHODS:
                answer = await ask(site, bar, {"method": method})
                said = answer.json()
                assert answer.status_code == 503, said
                assert (said["retryable"], answer.headers["retry-after"]) == (True, "1")
                assert ("cash is fine" in said["detail"].lower()) is True
                page = await post_form(site, bar, method=method, phone="0712 345 678")
                assert page.status_code == 503
                assert choices_on(page.text) == ["cash"]
                assert "cash is fine" in Page(page.text).text("answer").lower()
            proxy.disarm()
