"""Pages of other sites: those of listed origins get what is for customers, and nothing else; nobody else gets it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest

from mpesa_sync.db.pool import connect
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.settings import ALLOWED_ORIGINS, Settings
from mpesa_sync.web.app import create_app
from mpesa_sync.web.cors import SCRIPT
from mpesa_sync.web.customer import drop_in
from tests.support.browsing import with_session
from tests.support.observer import database_hash
from tests.support.venues import KEY, add_bar
from tests.support.web import Site, running

VENUE: Final = "https://venue.example"
LISTED: Final = (VENUE, "http://127.0.0.1:5000")
UNLISTED: Final = (
    "https://evil.example",
    "http://venue.example",
    "https://venue.example:8443",
    "https://venue.example.evil.example",
    "https://evilvenue.example",
    "https://VENUE.example",
    "https://venue.example/",
    "http://127.0.0.1:5001",
    "null",
    "http://[",
    "*",
    "",
)
METHODS: Final = "/api/bars/{}/payment-methods"
EVENTS: Final = "/api/bars/{}/payment-methods/events"
INTENTS: Final = "/api/bars/{}/payment-intents"
ASKED: Final = {
    METHODS: "GET",
    EVENTS: "GET",
    INTENTS: "POST",
    SCRIPT: "GET",
}


@asynccontextmanager
async def site_with(url: str, *origins: str) -> AsyncIterator[Site]:
    """Serve a database for pages of these origins."""
    async with (
        connect(url, kms_keys=[KEY], allow_sandbox=True) as database,
        running(database, url, allowed_origins=origins) as found,
    ):
        yield found


async def ask(site: Site, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """Ask, and return the answer without the body of a stream."""
    sent: dict[str, Any] = {"json": {"method": "cash"}} if method == "POST" else {}
    async with site.client.stream(method, path, headers=headers, **sent) as answer:
        if "event-stream" not in answer.headers.get("content-type", ""):
            await answer.aread()
        return answer


def varies(answer: httpx.Response) -> bool:
    """Whether an answer says that another origin may get another one."""
    return "origin" in {word.strip().lower() for word in answer.headers.get("vary", "").split(",")}


async def test_listed_origins_get_what_is_for_customers(database_url: str, sql: Any) -> None:
    """R3.2: the answer, its stream, the question before a payment and the script; 304 and 404 can be read too."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    async with site_with(database_url, *LISTED) as site:
        etag = (await site.client.get(METHODS.format(bar))).headers["etag"]
        kinds: list[tuple[str, str, int, dict[str, str]]]
        kinds = [(method, path.format(bar), 200, {}) for path, method in ASKED.items()]
        kinds += [("GET", METHODS.format(bar), 304, {"if-none-match": etag})]
        kinds += [("GET", METHODS.format("nowhere"), 404, {}), ("GET", EVENTS.format("nowhere"), 404, {})]
        for origin in LISTED:
            for method, path, status, more in kinds:
                headers = {"origin": origin, "sec-fetch-site": "cross-site", **more}
                answer = await ask(site, method, path, headers)
                assert answer.status_code == status, (path, origin)
                assert answer.headers.get_list("access-control-allow-origin") == [origin], path
                assert "access-control-allow-credentials" not in answer.headers
                assert varies(answer)
                assert "ETag" in answer.headers["access-control-expose-headers"]


async def test_origins_that_are_not_listed_are_refused_before_anything_is_done(database_url: str, sql: Any) -> None:
    """The browser would keep the answer from the page anyway; so no stream is opened, and it is said what to do."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    async with site_with(database_url, *LISTED) as site:
        for origin in UNLISTED:
            for path, method in ASKED.items():
                for asked in (method, "OPTIONS"):
                    headers = {"origin": origin, "access-control-request-method": method}
                    answer = await ask(site, asked, path.format(bar), headers)
                    assert answer.status_code == 403, (asked, path, origin)
                    assert not [name for name in answer.headers if name.startswith("access-control")]
                    assert varies(answer)
                    said = json.loads(answer.content)
                    assert said["code"] == "origin_not_allowed"
                    assert ALLOWED_ORIGINS in said["detail"]
                    assert not origin or origin in ("null", "*") or origin not in answer.text
        assert site.hub.state.streams == 0


async def test_without_a_list_no_other_origin_gets_anything(site: Site, sql: Any) -> None:
    """Spec 7: nothing is open that nobody opened; our own pages and programs without an origin are served."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    for path, method in ASKED.items():
        refused = await ask(site, method, path.format(bar), {"origin": VENUE})
        assert refused.status_code == 403
        for headers in ({}, {"origin": site.url}):
            answer = await ask(site, method, path.format(bar), headers)
            assert answer.status_code == 200, path
            assert "access-control-allow-origin" not in answer.headers
            assert varies(answer)


async def test_a_browser_that_asks_first_is_answered(database_url: str, sql: Any) -> None:
    """Preflight: JSON in a POST, a condition in a GET; the methods of the address and no others."""
    bar = await add_bar(sql)
    async with site_with(database_url, *LISTED) as site:
        for path, method in ASKED.items():
            headers = {
                "origin": VENUE,
                "access-control-request-method": method,
                "access-control-request-headers": "content-type,if-none-match",
            }
            answer = await site.client.options(path.format(bar), headers=headers)
            assert answer.status_code == 204
            assert answer.headers["access-control-allow-origin"] == VENUE
            assert answer.headers["access-control-allow-methods"] == method
            assert answer.headers["access-control-allow-headers"] == "Content-Type, If-None-Match"
            assert "access-control-allow-credentials" not in answer.headers
            assert varies(answer)


async def test_nothing_else_answers_to_a_listed_origin(database_url: str, sql: Any) -> None:
    """Never staff, settings, operators: every route of the application but four; a form from there is refused."""
    bar = await add_bar(sql, production=False)
    async with site_with(database_url, *LISTED) as site:
        mine = await with_session(site, await site.person(sql, bar))
        before = await database_hash(sql)
        open_paths = set()
        for route in create_app(site.context).routes:
            path = route.path_format.replace("{bar_id}", str(bar)).replace("{bar}", str(bar))
            for method in ("GET", "POST", "OPTIONS"):
                headers = {**mine.headers, "origin": VENUE, "access-control-request-method": "POST"}
                answer = await ask(site, method, path, headers)
                if [name for name in answer.headers if name.startswith("access-control")]:
                    open_paths.add(route.path_format)
                elif method == "POST":
                    assert answer.status_code in (400, 403, 404, 405), (path, answer.status_code)
        assert open_paths == {
            "/api/bars/{bar}/payment-methods",
            "/api/bars/{bar}/payment-methods/events",
            "/api/bars/{bar}/payment-intents",
            SCRIPT,
        }
        assert await database_hash(sql) == before


async def test_other_sites_cannot_embed_what_they_may_not_read(site: Site, sql: Any) -> None:
    """CORP: an answer cannot be loaded as a script or a picture elsewhere; the drop-in is there for just that."""
    bar = await add_bar(sql, production=True)
    for path in (
        METHODS.format(bar),
        EVENTS.format(bar),
        f"/menu/{bar}",
        "/staff/sign-in",
        "/static/live.js",
        "/livez",
    ):
        answer = await ask(site, "GET", path, {})
        assert answer.headers.get_list("cross-origin-resource-policy") == ["same-origin"], path
    answer = await ask(site, "GET", SCRIPT, {})
    assert answer.headers.get_list("cross-origin-resource-policy") == ["cross-origin"]


async def test_the_script_is_small_and_kept_for_minutes(site: Site) -> None:
    """Issue 6: at most 5 KB as it is served; a new version reaches every page soon, under the same address."""
    answer = await site.client.get(SCRIPT, headers={"accept-encoding": "identity"})
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "content-encoding" not in answer.headers
    assert len(answer.content) <= 5_000
    assert "max-age=300" in answer.headers["cache-control"]
    again = await site.client.get(SCRIPT, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for forbidden in (
        "eval(",
        "Function(",
        ".innerHTML",
        ".style",
        "document.write",
        "document.cookie",
        "localStorage",
    ):
        assert forbidden not in answer.text


def test_dense_leaves_every_name_and_every_text() -> None:
    """The script is served without what only its readers need; what it does has tests in a browser."""
    source = (
        '// why\nconst a = { b: 1 };\n  // how\n  if (a.b > 0) {\n    say(`x ${a.b}`, "y z");\n  }\nfunction f() {}\n'
    )
    assert drop_in.dense(source) == 'const a={b:1};if(a.b>0){say(`x ${a.b}`,"y z")}function f(){}\n'


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            "*",
            "https://*.venue.example",
            "null",
            "venue.example",
            "https://venue.example/",
            "https://venue.example/menu",
        ),
        *(
            "https://Venue.example",
            "https://venue.example:443",
            "http://venue.example:80",
            "https://",
            "ftp://a.example",
        ),
        *(
            "https://a@venue.example",
            "https://venue.example?x",
            "https://a.example,",
            '["https://a.example"]',
            "https://vénue.ke",
        ),
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(wrong: str) -> None:
    """Spec 7: named with its remedy, without its content; a pattern would let in more than was meant."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.load({ALLOWED_ORIGINS: f"https://good.example, {wrong}"})
    assert all(fault.startswith(f"{ALLOWED_ORIGINS}, origin ") for fault in refused.value.faults)
    assert "as browsers" in refused.value.faults[0]
    assert wrong not in ("*", "null") or wrong not in refused.value.faults[0]


def test_origins_are_read_as_they_are_listed() -> None:
    """Spec 7: with commas between; nothing is listed where nothing is set."""
    text = "https://venue.example, http://localhost:3000,http://[::1]:8080"
    assert Settings.load({ALLOWED_ORIGINS: text}).allowed_origins == tuple(text.replace(" ", "").split(","))
    assert Settings.load({}).allowed_origins == ()
