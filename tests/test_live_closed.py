"""A venue that is marked as closed, told beside its offer: as an event before the frame, as a header of the poll."""

from __future__ import annotations

from typing import Any, Final

from tests.support.live_hub import running
from tests.support.live_page import open_page
from tests.support.venues import add_bar
from tests.support.web import Site

_ACTIVE: Final = "update public.bars set active = $2 where id = $1"


async def test_a_stream_says_closed_before_the_frame_and_says_nothing_where_it_is_open(
    database_url: str, sql: Any
) -> None:
    """Issue 6: live in both directions, also where the offer stays the same; the frame is as the contract says."""
    bar = await add_bar(sql)
    async with running(database_url) as hub, open_page(hub, bar) as page:
        for number, active in enumerate((True, False, None, False), start=1):
            await sql.execute(_ACTIVE, bar, active)
            await page.until(lambda page, number=number: len(page.frames) >= number)  # type: ignore[misc]  # mypy infers no default of a lambda
        await page.until(lambda page: len(page.frames) >= 4)
        told = page.names
    before = ["closed" if name == "closed" else "" for name in told[:-1]]
    said = [earlier for earlier, name in zip(["", *before], told, strict=True) if name == "payment-methods"]
    assert said == ["", "closed", "", "closed"]
    assert all(frame.data.keys() == {"bar", "methods", "version"} for frame in page.frames)


async def test_a_poll_says_closed_in_a_header(site: Site, sql: Any) -> None:
    """Issue 6: beside the same body as ever, with 304 as well."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    path = f"/api/bars/{bar}/payment-methods"
    assert "x-venue" not in (await site.client.get(path)).headers
    await sql.execute(_ACTIVE, bar, False)
    await site.hub.known(bar, fresh=True)
    answer = await site.client.get(path)
    again = await site.client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (answer.headers["x-venue"], again.headers["x-venue"], again.status_code) == ("closed", "closed", 304)
    assert answer.json().keys() == {"bar", "methods", "version"}
