"""From the staff's API and page, the command line and other programs to the customer's page, over all 48 states (T8.1).

One customer's page stays open while its bar is put into each state, and whoever can change it does. What the page lets
choose is read in Chromium; what it should is said by an oracle in plain Python about what is committed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.support.cli import cli
from tests.support.observer import Seen, see
from tests.support.premises import Premises, premises, until_offers
from tests.support.soak import owner_of
from tests.support.states import STATES, State, put
from tests.support.venues import KEY
from tests.support.web import JWT_SECRET

pytestmark = [pytest.mark.prove, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]
_PATH: Final = "/api/mpesa-settings"
_FLAG: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
_ROW: Final = "update public.mpesa_credentials set is_active = $3 where tenant_id = $1 and environment = $2"
_ROWS: Final = "update public.mpesa_credentials set is_active = $2 where tenant_id = $1"
_NO_ROW: Final = "delete from public.mpesa_credentials where tenant_id = $1 and environment = $2"
_CLOSED: Final = "update public.bars set active = $2 where id = $1"
_ENTRY: Final = "select mpesa_sync.set_mpesa_status_v1($1, $2, 'another program')"
_SWITCH: Final = "#switch form:first-of-type button"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def venue(
    tmp_path_factory: pytest.TempPathFactory, server_url: str, greenfield_template: str
) -> AsyncIterator[Premises]:
    """A server that knows bearer tokens, and a browser."""
    home = tmp_path_factory.mktemp("matrix")
    async with premises(home, server_url, greenfield_template, MPESA_SYNC_JWT_SECRET=JWT_SECRET.reveal()) as found:
        yield found


class World:
    """One bar, its staff, and whoever else writes it."""

    def __init__(
        self, place: Premises, client: httpx.AsyncClient, headers: dict[str, str], bar: UUID, url: str
    ) -> None:
        self._client, self._headers, self._url = client, headers, url
        self.sql, self.bar, self.place = place.sql, bar, place
        self.staff: Page | None = None

    async def save(self, enabled: bool, environment: str) -> int:
        """Save over the API; return the status of the answer."""
        body = {"barId": str(self.bar), "mpesa_enabled": enabled, "mpesa_environment": environment}
        return (await self._client.post(_PATH, headers=self._headers, json=body)).status_code

    async def repair(self) -> int:
        """Repair on the command line; return its exit code."""
        ended = await asyncio.to_thread(cli, "repair", str(self.bar), url=self._url, MPESA_KMS_KEY=KEY.reveal())
        return ended.code

    async def press(self) -> bool | None:
        """Press the switch of the staff page; return what it was said to do, None where there is none."""
        assert self.staff is not None
        await self.staff.reload()
        # Its first look may move what stands above the switch: a press in that moment would fall beside it.
        await expect(self.staff.locator("#feed")).to_have_text("Live")
        button = self.staff.locator(_SWITCH)
        if not await button.count():
            return None
        is_on = (await button.inner_text()).strip().endswith("on")
        await button.click()
        await expect(self.staff.locator(".said.good")).to_be_visible()
        return is_on


def _offered(seen: Seen) -> tuple[str, ...]:
    """Say from spec 2 what a customer is offered: every row's secrets are good, and a sandbox is allowed here."""
    return ("mpesa", "cash") if seen.mpesa_enabled is True and seen.authority else ("cash",)


def _is_off(seen: Seen) -> bool:
    return (seen.mpesa_enabled is True, seen.authority) == (False, False)


def _is_on(seen: Seen, environment: str | None = None) -> bool:
    return seen.mpesa_enabled is True and (seen.active == [environment] if environment else len(seen.active) == 1)


def _unchanged(seen: Seen, state: State) -> bool:
    return (seen.mpesa_enabled, seen.flags) == (state.mpesa_enabled, state.flags)


async def _saves_on(world: World, state: State, environment: str) -> bool:
    status = await world.save(True, environment)
    seen = await _seen(world)
    if environment in state.flags:
        return status == 200 and _is_on(seen, environment)
    return status == 400 and _unchanged(seen, state)


async def _saves_off(world: World, state: State) -> bool:
    return await world.save(False, "production") == 200 and _is_off(await _seen(world))


async def _repairs(world: World, state: State) -> bool:
    code, seen = await world.repair(), await _seen(world)
    return code == 0 and not seen.drifted and seen.flags == state.flags


async def _presses(world: World, state: State) -> bool:
    is_on = await world.press()
    seen = await _seen(world)
    if is_on is None:
        return _unchanged(seen, state)
    return _is_on(seen) if is_on else _is_off(seen)


async def _enters(world: World, state: State) -> bool:
    await world.sql.execute(_ENTRY, world.bar, False)
    return _is_off(await _seen(world))


def _writes(statement: str, *arguments: Any) -> Callable[[World, State], Awaitable[bool]]:
    """Return a write of another program, which knows one field."""

    async def write(world: World, _state: State) -> bool:
        await world.sql.execute(statement, world.bar, *arguments)
        return True

    return write


async def _seen(world: World) -> Seen:
    seen = await see(world.sql, world.bar)
    assert seen is not None
    return seen


TRANSITIONS: Final[dict[str, Callable[[World, State], Awaitable[bool]]]] = {
    "staff save: production on": lambda world, state: _saves_on(world, state, "production"),
    "staff save: sandbox on": lambda world, state: _saves_on(world, state, "sandbox"),
    "staff save: off": _saves_off,
    "staff page: the switch": _presses,
    "operator: repair": _repairs,
    "SQL entry point: off": _enters,
    "another program: flag on": _writes(_FLAG, True),
    "another program: flag off": _writes(_FLAG, False),
    "another program: production on": _writes(_ROW, "production", True),
    "another program: production off": _writes(_ROW, "production", False),
    "another program: all rows off": _writes(_ROWS, False),
    "another program: no production row": _writes(_NO_ROW, "production"),
}


async def test_every_change_of_every_state_is_on_the_customers_page(venue: Premises) -> None:
    """R1.2, R1.3, R3.1 to R3.4, R4: 48 states, twelve who change them; the page was opened once and never reloaded."""
    url, told = venue.database_url, Counter[str]()
    async with venue.visited(), httpx.AsyncClient(base_url=venue.origin) as client:
        bar = await venue.bar()
        world = World(venue, client, await owner_of(venue.sql, [bar], lasts_s=900), bar, url)
        world.staff, menu = await venue.staff_page(bar), await venue.menu(bar)
        await menu.evaluate("window.kept = 'since the page was opened'")
        for state in STATES:
            for name, changes in TRANSITIONS.items():
                await put(venue.sql, bar, state)
                await until_offers(menu, *_offered(await _seen(world)))
                assert await changes(world, state), f"{name} from {state}: {await see(venue.sql, bar)}"
                await until_offers(menu, *_offered(await _seen(world)))
                told[name] += 1
            await put(venue.sql, bar, state)
            await venue.sql.execute(_CLOSED, bar, False)
            await expect(menu.locator("#closed")).to_be_visible()
            await until_offers(menu, "cash")
            await venue.sql.execute(_CLOSED, bar, True)
            await until_offers(menu, *_offered(await _seen(world)))
        assert await menu.evaluate("window.kept") == "since the page was opened"
    print(dict(told))
    assert set(told.values()) == {len(STATES)}
