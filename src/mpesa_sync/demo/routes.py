"""/demo: both apps side by side, the raw values of both fields, and controls that break and mend. In the demo only."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from litestar import MediaType, Request, Response, get, post
from litestar.params import FromQuery
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from mpesa_sync.demo import controls, venues
from mpesa_sync.demo.desk import Desk
from mpesa_sync.demo.observer import Fields
from mpesa_sync.demo.venues import Venue
from mpesa_sync.errors import BarNotFound, InvalidInput, MpesaSyncError, SyncRefused
from mpesa_sync.identity import sessions
from mpesa_sync.web import auth, pages, views
from mpesa_sync.web.body import form_fields

DESK: Final = "demo"
"""In the application's state: the desk."""
PATH: Final = "/demo"
CONTROL: Final = f"{PATH}/control"
SIGN_IN: Final = f"{PATH}/sign-in"
FIRST: Final = venues.BARAKA
"""What is shown first: a drifted venue, the problem itself."""
_SEE_OTHER: Final = 303


def _desk(request: Request[Any, Any, Any]) -> Desk:
    desk: Desk = request.app.state[DESK]
    return desk


@get(PATH, include_in_schema=False)
async def show(request: Request[Any, Any, Any], venue: FromQuery[str] = FIRST.slug) -> Response[str]:
    """Return the page of the demo, for one venue."""
    return await _page(request, _venue(venue), "")


@get(f"{PATH}/state", include_in_schema=False)
async def state(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Return both fields of every venue as stored: what the page compares to know when to read itself anew."""
    seen = await _desk(request).see_all()
    values = {venue.slug: seen[venue.id].values() for venue in venues.VENUES if venue.id in seen}
    return Response(values, headers={"cache-control": "no-store"})


@post(CONTROL, include_in_schema=False, status_code=HTTPStatus.OK)
async def control(request: Request[Any, Any, Any]) -> Response[str]:
    """Break or mend something, and return the page with what happened."""
    auth.require_own_page(request)
    fields = await form_fields(request)
    venue, found = _venue(fields.get("venue", "")), controls.chosen(fields.get("control", ""))
    if found is None:
        raise InvalidInput("control", "is none of this page's")
    desk, (chosen, on) = _desk(request), found
    async with desk.turn:
        try:
            result = await chosen.act(desk, venue, on)
        except SyncRefused as error:
            result = f"Refused: {error.message} Nothing was changed."
        except MpesaSyncError as error:
            result = f"Failed: {error.message}"
    return await _page(request, venue, result)


@post(SIGN_IN, include_in_schema=False)
async def sign_in(request: Request[Any, Any, Any]) -> Redirect:
    """Sign this browser in as the demo's staff member, without a password: served to this machine only."""
    auth.require_own_page(request)
    venue, desk = _venue((await form_fields(request)).get("venue", "")), _desk(request)
    if (before := await auth.session_of(request)) is not None:
        await sessions.end(desk.database, before.token)
    answer = Redirect(f"{PATH}?venue={venue.slug}", status_code=_SEE_OTHER)
    answer.set_cookie(auth.session_cookie(request, await sessions.create(desk.database, desk.account)))
    return answer


ROUTES: Final[tuple[ControllerRouterHandler, ...]] = (show, state, control, sign_in)


def _venue(slug: str) -> Venue:
    venue = venues.named(slug)
    if venue is None:
        raise BarNotFound("There is no such sample venue.")
    return venue


async def _page(request: Request[Any, Any, Any], chosen: Venue, result: str) -> Response[str]:
    desk = _desk(request)
    seen = await desk.see_all()
    lines = {venue.id: _line(venue, seen[venue.id]) for venue in venues.VENUES if venue.id in seen}
    if chosen.id not in lines:
        raise BarNotFound("This sample venue was deleted. Choose another one and put everything back.")
    view = views.DemoView(
        venues=tuple(lines.values()),
        chosen=lines[chosen.id],
        controls=tuple(_control(control, seen[chosen.id]) for control in controls.CONTROLS),
        action=CONTROL,
        result=result,
        sign_in="" if await auth.session_of(request) else desk.account.name,
    )
    return Response(
        pages.render("demo.html", view=view), media_type=MediaType.HTML, headers={"cache-control": "no-store"}
    )


def _line(venue: Venue, now: Fields) -> views.DemoVenue:
    flags = [f"{name}: {_word(flag)}" for name, flag in sorted(now.is_active.items())]
    return views.DemoVenue(
        id=str(venue.id),
        slug=venue.slug,
        name=venue.name,
        state=venue.state,
        mpesa_enabled=_word(now.mpesa_enabled),
        active=", ".join(flags) or "no credentials row",
        drift=now.drift or "",
    )


def _control(control: controls.Control, now: Fields) -> views.DemoControl:
    wants = control.wants(now)
    return views.DemoControl(
        id=f"{control.id}:{'on' if wants else 'off'}",
        title=control.title,
        text=control.text,
        button=control.on if wants else control.off,
        mends=control.mends,
    )


def _word(flag: bool | None) -> str:
    return "NULL" if flag is None else str(flag).lower()
