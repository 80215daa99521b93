"""A venue's world for browser tests: `serve` as a process, PostgreSQL behind a proxy, and people who sign in."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from playwright.async_api import Browser, Page, expect

from mpesa_sync.db.accounts import Account
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.identity import accounts, sessions
from mpesa_sync.identity.people import Role
from mpesa_sync.monitoring.names import Event
from mpesa_sync.web.auth import COOKIE
from tests.support import databases
from tests.support.chromium import Visits, browser
from tests.support.people import PASSWORD
from tests.support.serving import Served, served
from tests.support.venues import KEY, Row, add_bar

_RENAME: Final = "update public.bars set name = $2, mpesa_environment = 'production' where id = $1"


class Premises:
    """What the tests of a module share. Every test has bars and accounts of its own.

    Attributes:
        sql: a plain connection, not through the proxy: another program.
        database: ours, for accounts and sessions; not through the proxy.
        proxy: between `serve` and PostgreSQL.
        visits: of the test that runs.
    """

    def __init__(
        self,
        home: Path,
        url: str,
        proxy: TcpProxy,
        database: Database,
        sql: Any,
        chromium: Browser,
        variables: Mapping[str, str],
    ) -> None:
        self._home = home
        self._url = url
        self.chromium = chromium
        self._variables = variables
        self._stack = AsyncExitStack()
        self._serving: Served | None = None
        self._port = 0
        self.proxy = proxy
        self.database = database
        self.sql = sql
        self.visits = Visits(chromium, "")

    async def __aenter__(self) -> Self:
        await self.serve()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    @property
    def origin(self) -> str:
        """Return the address of the server, the same in every life of it."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def database_url(self) -> str:
        """Return the address of its database, not through the proxy."""
        return self._url

    async def serve(self) -> None:
        """Start the server, on the port that it had before."""
        arguments = ("--host", "127.0.0.1", "--port", str(self._port))
        url = self.proxy.url_for(self._url)
        self._serving = await self._stack.enter_async_context(
            served(
                self._home,
                *arguments,
                url=url,
                MPESA_KMS_KEY=KEY.reveal(),
                MPESA_SYNC_RECONCILE="observe",
                **self._variables,
            )
        )
        self._port = urlsplit(self._serving.url).port or 0

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the server a signal and wait until it has ended."""
        assert self._serving is not None
        code = await self._serving.stop(number)
        assert code == (0 if number is signal.SIGTERM else -number)

    @asynccontextmanager
    async def visited(self) -> AsyncIterator[None]:
        """Let a test open windows; at its end they are closed, and nothing may have gone wrong in them."""
        self.visits = Visits(self.chromium, self.origin)
        try:
            yield
        finally:
            await self.visits.close()
            said = self._serving.said if self._serving else []
            assert not [line for line in said if Event.REQUEST_FAILED in line], "the server failed"

    async def bar(self, *, shown: bool | None = False, row: Row = "absent", name: str = "Savanna Terrace") -> UUID:
        """Add a bar: `shown` is what customer pages read, `row` what staff have set for production."""
        bar = await add_bar(self.sql, mpesa_enabled=shown, production=row)
        await self.sql.execute(_RENAME, bar, name)
        return bar

    async def owner(self, *bars: UUID, role: Role = Role.OWNER) -> Account:
        """Add an account that belongs to bars; its password is `people.PASSWORD`."""
        name = f"asha-{uuid4().hex[:8]}"
        return await accounts.add(self.database, name, PASSWORD, memberships=dict.fromkeys(bars, role))

    async def staff_page(self, bar: UUID, account: Account | None = None, *, script: bool = True) -> Page:
        """Open a bar's staff page with a session that has begun already, of a new owner or of this account."""
        session = await sessions.create(self.database, account or await self.owner(bar))
        cookie = {"name": COOKIE, "value": session.token.reveal()}
        return await self.visits.open(f"/staff/bars/{bar}/mpesa", script=script, cookie=cookie)

    async def menu(self, bar: UUID, *, script: bool = True) -> Page:
        """Open the customers' page of a bar."""
        return await self.visits.open(f"/menu/{bar.hex}", script=script)


@asynccontextmanager
async def premises(home: Path, server_url: str, template: str, **variables: str) -> AsyncIterator[Premises]:
    """Serve a database of its own, cloned from a template, and start a browser, until the block ends.

    Arguments:
        variables: of the environment of `serve`, besides those that are always set.
    """
    async with browser() as chromium:
        url = await databases.make_database(server_url, template=template)
        async with (
            TcpProxy.before(url) as proxy,
            connect(url, kms_keys=[KEY]) as database,
            databases.plain(url) as sql,
            Premises(home, url, proxy, database, sql, chromium, variables) as found,
        ):
            yield found
        await databases.drop_database(server_url, url)


async def sign_in(page: Page, name: str) -> None:
    """Fill in the sign-in page and send it."""
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD.reveal())
    await page.get_by_role("button", name="Sign in").click()


async def fill_credentials(page: Page, **values: str) -> None:
    """Fill in fields of the credentials form by name, without `mpesa_`."""
    for name, value in values.items():
        await page.locator(f"#mpesa_{name}").fill(value)


async def until_offers(page: Page, *methods: str) -> None:
    """Wait until a customers' page lets choose exactly this, in this order."""
    inputs = page.locator("#methods > li input[type=radio]:visible")
    await expect(inputs).to_have_count(len(methods))
    for place, method in enumerate(methods):
        await expect(inputs.nth(place)).to_have_value(method)
    await expect(page.locator("#none")).to_be_visible(visible=not methods)
