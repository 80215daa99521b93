"""Steps of the story about the customers' page: what it says without a script, and how changes reach it."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable
from typing import Any, Final

from mpesa_sync.demo import legacy, observer, venues
from mpesa_sync.demo.browser import Browser, Stream
from mpesa_sync.demo.stage import STAFF, Stage, StoryBroken
from mpesa_sync.demo.venues import Sealed, Venue
from mpesa_sync.demo.web_story import SETTINGS, bearer, site_of

_METHODS: Final = re.compile(r'<ul id="methods".*?</ul>', re.DOTALL)
_RADIO: Final = re.compile(r'name="method" value="([a-z]+)"')
_PROMISED_S: Final = 15.0
"""In every mode of the live feed a change is there within this (facts/live.md, L2)."""


async def streamed(stage: Stage) -> None:
    """R3.2: an open page hears of every change, whoever wrote it."""
    venue, browser = venues.NYALI, Browser(site_of(stage).url)
    before = await stage.see(venue)
    stage.say(f"A customer's page of {venue.name} is open. It loads nothing again; it hears of changes.")
    async with browser.stream(f"/api/bars/{venue.slug}/payment-methods/events") as stream:
        first = await stream.until(lambda frame: frame.name == "payment-methods", after=0, within_s=_PROMISED_S)
        stage.check("its first frame: M-Pesa is there", first is not None and "mpesa" in first.methods)
        for on in (False, True):
            who = f"the API switches {'on' if on else 'off'}"
            await _heard(stage, stream, who, on, _posted(stage, browser, venue, on))
        await _heard(
            stage,
            stream,
            "a plain SQL write of another program: mpesa_enabled = false",
            False,
            legacy.support_script_sets(stage.plain, venue, False),
        )
        drifted = await stage.see(venue)
        stage.check("its two fields disagree now: it is not offered, rather than be a dead button", drifted.drift)
        repaired = stage.manager.repair_inconsistency(venue.id, actor=STAFF)
        await _heard(stage, stream, "the repair", True, repaired)
        numbers = [int(frame.id.rpartition(":")[2]) for frame in stream.frames if frame.name == "payment-methods"]
        stage.check(f"versions went up only: {numbers}", numbers == sorted(set(numbers)))
    stage.show(venue, before, await stage.see(venue))


async def _posted(stage: Stage, program: Browser, venue: Venue, on: bool) -> None:
    answer = await program.post_json(SETTINGS, {"barId": str(venue.id), "mpesa_enabled": on}, **bearer(stage))
    if answer.status != 200:
        raise StoryBroken(f"not so: saved ({answer.status})")


async def _heard(stage: Stage, stream: Stream, what: str, offered: bool, change: Awaitable[Any]) -> None:
    """Make a change and wait for the frame that shows it; say how long after the commit's answer it came."""
    known = len(stream.frames)
    await change
    done = time.perf_counter()
    frame = await stream.until(
        lambda frame: frame.name == "payment-methods" and ("mpesa" in frame.methods) is offered,
        after=known,
        within_s=_PROMISED_S,
    )
    if frame is None:
        raise StoryBroken(f"not so: {what}: on the page within {_PROMISED_S:.0f} s")
    late_ms = (frame.at - done) * 1000
    came = f"{late_ms:.1f} ms after" if late_ms > 0 else "before"
    stage.check(f"{what}: on the page {came} the writer had its answer", True)


async def without_script(stage: Stage) -> None:
    """R3.1, R3.3, R3.4: the page as the server sends it says what the API says, for every venue."""
    browser = Browser(site_of(stage).url)
    stage.say("Two venues drift once more, and every page is read without a script:")
    hidden, exposed = venues.NYALI, venues.KISUMU
    await legacy.support_script_sets(stage.plain, hidden, False)
    await stage.manager.sync_mpesa_status(exposed.id, False, actor=STAFF)
    await legacy.support_script_sets(stage.plain, exposed, True)
    seen, said, wrong = await observer.see_all(stage.plain), 0, []
    for venue in venues.VENUES:
        page = await browser.get(f"/menu/{venue.slug}", accept="text/html")
        api = await browser.get(f"/api/bars/{venue.slug}/payment-methods")
        part = _METHODS.search(page.text)
        rendered = _RADIO.findall(part[0]) if part else []
        offered = [method["id"] for method in api.json["methods"]]
        said += rendered == offered
        wrong += [venue.slug] if ("mpesa" in offered) is not _is_due(venue, seen[venue.id]) else []
        note = f"drifted: {seen[venue.id].drift}" if seen[venue.id].drift else ""
        stage.narrator.line(f"      {venue.name:<24}{', '.join(rendered) or 'none':<24}{note}".rstrip(), "dim")
    stage.check(f"page and API say the same for {said} of {len(seen)} venues", said == len(seen) == len(venues.VENUES))
    stage.check("M-Pesa stands exactly where both fields say on", not wrong)
    asked = await browser.get(f"/api/bars/{hidden.slug}/payment-methods")
    again = await browser.get(f"/api/bars/{hidden.slug}/payment-methods", if_none_match=asked.headers["etag"])
    stage.check("asked again with what it has: 304, nothing is sent twice", (again.status, again.body) == (304, b""))
    for venue in (hidden, exposed):
        await stage.manager.repair_inconsistency(venue.id, actor=STAFF)
    drifted = [fields for fields in (await observer.see_all(stage.plain)).values() if fields.drift]
    stage.check("both are mended", not drifted)


def _is_due(venue: Venue, now: observer.Fields) -> bool:
    """Return whether customers are to be offered M-Pesa, by the specification and apart from the code.

    Of the sample venues with secrets that do not open, none was ever switched on.
    """
    usable = venue.sealed is Sealed.GOOD
    return usable and now.mpesa_enabled is True and bool(now.active)
