"""A real nginx in front, as docs/how-to/serve.md shows it: frames come at once, and everybody counts for themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from mpesa_sync.db.pool import connect
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.identity import accounts
from mpesa_sync.settings import LOOPBACK, TRUSTED_PROXIES, Settings
from mpesa_sync.web.auth import COOKIE
from tests.support.browsing import open_stream
from tests.support.live_hub import switch
from tests.support.nginx import behind
from tests.support.people import PASSWORD
from tests.support.venues import KEY, add_bar
from tests.support.web import Site, running

PROXY: Final = "127.0.0.3"
BOUND: Final = f"proxy_bind {PROXY};"
"""nginx comes from an address of its own: one that is no client's, and not this machine's usual one."""


@asynccontextmanager
async def site_with(url: str, **settings: Any) -> AsyncIterator[Site]:
    """Serve a database with some settings."""
    async with (
        connect(url, kms_keys=[KEY], allow_sandbox=True) as database,
        running(database, url, **settings) as found,
    ):
        yield found


def client(address: str, source: str = "127.0.0.1") -> httpx.AsyncClient:
    """A client that comes from an address of its own."""
    return httpx.AsyncClient(base_url=address, transport=httpx.AsyncHTTPTransport(local_address=source))


async def test_frames_come_at_once_through_a_proxy_that_buffers(site: Site, sql: Any, tmp_path: Path) -> None:
    """facts/live.md: with nginx as it comes, buffering on; each change is there before the next one is made.

    What asks it not to buffer is for nginx alone, which takes it out: who reads slowly must be slow to us.
    """
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    path = f"/api/bars/{bar}/payment-methods/events"
    async with site.client.stream("GET", path) as direct:
        assert direct.headers["x-accel-buffering"] == "no"
        assert direct.headers["cache-control"] == "no-store, no-transform"
    async with (
        behind(tmp_path, site.url) as address,
        client(address) as through,
        asyncio.timeout(30),
        through.stream("GET", path) as passed,
    ):
        assert "x-accel-buffering" not in passed.headers
        assert "content-encoding" not in passed.headers
        async with open_stream(through, path) as frames:
            offered = [[one["id"] for one in (await anext(frames)).data["methods"]]]
            for is_on in (False, True, False, True):
                await switch(sql, bar, is_on)
                offered.append([one["id"] for one in (await anext(frames)).data["methods"]])
    assert offered == [["mpesa", "cash"], ["cash"], ["mpesa", "cash"], ["cash"], ["mpesa", "cash"]]


async def test_connections_are_kept(site: Site, sql: Any, tmp_path: Path) -> None:
    """HTTP/1.1 on both sides: answers, with and without a body, and refusals end no connection."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    offer = f"/api/bars/{bar}/payment-methods"
    async with behind(tmp_path, site.url) as address, client(address) as through:
        ports = set()
        for path, headers in (
            (offer, {}),
            (offer, {"if-none-match": (await through.get(offer)).headers["etag"]}),
            ("/api/bars/nowhere/payment-methods/events", {}),
            (offer, {"origin": "https://evil.example"}),
            ("/menu/nowhere", {}),
        ):
            answer = await through.get(path, headers=headers)
            assert answer.http_version == "HTTP/1.1"
            assert "close" not in answer.headers.get("connection", "")
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(ports) == 1


async def until_second_stream(address: str, path: str, second: str, **headers: str) -> int:
    """Open a stream from one address and then one from `second`; return the status of that."""
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(client(address, source)) for source in ("127.0.0.2", second)]
        frames = await stack.enter_async_context(open_stream(one, path))
        await anext(frames)
        answer = await stack.enter_async_context(other.stream("GET", path, headers=headers))
        return answer.status_code


async def test_customers_behind_a_proxy_that_is_named_count_for_themselves(
    database_url: str, sql: Any, tmp_path: Path
) -> None:
    """Caps per address: by the proxy's word where it is trusted, alone or by its network; else all are the proxy."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    path = f"/api/bars/{bar}/payment-methods/events"
    for proxies, expected in (((PROXY,), 200), (("10.0.0.0/8", "127.0.0.3/32"), 200), (LOOPBACK, 503)):
        async with (
            site_with(database_url, max_streams_per_address=1, trusted_proxies=proxies) as site,
            behind(tmp_path, site.url, more=BOUND) as address,
        ):
            assert await until_second_stream(address, path, "127.0.0.4") == expected, proxies


async def test_nobody_chooses_an_address(database_url: str, sql: Any, tmp_path: Path) -> None:
    """Spoofing: what a client writes before the proxy does, and what comes past the proxy, counts for nothing."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    path = f"/api/bars/{bar}/payment-methods/events"
    async with (
        site_with(database_url, max_streams_per_address=1, trusted_proxies=(PROXY,)) as site,
        behind(tmp_path, site.url, more=BOUND) as address,
    ):
        for claimed in ("203.0.113.9", f"203.0.113.9, {PROXY}", "127.0.0.1", "junk, ,"):
            headers = {"x-forwarded-for": claimed}
            assert await until_second_stream(address, path, "127.0.0.2", **headers) == 503, claimed
            assert await until_second_stream(site.url, path, "127.0.0.2", **headers) == 503, claimed


async def test_only_a_trusted_proxy_says_that_it_was_https(database_url: str, tmp_path: Path) -> None:
    """nginx says http, which a client cannot better; this machine, which is no proxy here, is not believed at all."""
    async with (
        site_with(database_url, trusted_proxies=(PROXY,)) as site,
        behind(tmp_path, site.url, more=BOUND) as address,
        client(address) as through,
    ):
        await accounts.add(site.context.database, "asha", PASSWORD)
        form = {"name": "asha", "password": PASSWORD.reveal()}
        for asked in (through, site.client):
            answer = await asked.post("/staff/sign-in", data=form, headers={"x-forwarded-proto": "https"})
            assert answer.headers["set-cookie"].startswith(f"{COOKIE}=")
            assert "secure" not in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "wrong", ["*", "0.0.0.0/0", "::/0", "proxy.example", "10.0.0.1/8", "10.0.0.1:80", "", "10.0.0.5,"]
)
def test_what_is_no_address_is_refused_at_the_start(wrong: str) -> None:
    """Spec 7: named with its remedy; whoever trusted everybody would let everybody choose an address."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.load({TRUSTED_PROXIES: wrong})
    assert all(fault.startswith(TRUSTED_PROXIES) for fault in refused.value.faults)


def test_proxies_are_read_as_they_are_listed() -> None:
    """Spec 7: addresses and networks; this machine where nothing is set."""
    listed = Settings.load({TRUSTED_PROXIES: "10.0.0.5, 10.1.0.0/16,2001:db8::/32"}).trusted_proxies
    assert listed == ("10.0.0.5", "10.1.0.0/16", "2001:db8::/32")
    assert Settings.load({}).trusted_proxies == LOOPBACK
