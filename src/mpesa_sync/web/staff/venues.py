"""/staff: the venues of a person, with what customers see at each of them now."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from litestar import Request, Response, get

from mpesa_sync.errors import BarNotFound, DatabaseFault, SchemaError
from mpesa_sync.identity import membership
from mpesa_sync.identity.people import Membership
from mpesa_sync.live.hub import Hub
from mpesa_sync.web import context, status_view, views
from mpesa_sync.web.staff import session as staff

_AT_ONCE: Final = 500


@get(staff.VENUES, include_in_schema=False)
async def show(request: Request[Any, Any, Any]) -> Response[Any]:
    """Return the list of the person's venues."""
    session = await staff.session_of(request)
    if session is None:
        return staff.to_sign_in(request)
    found = context.of(request)
    async with found.database.reading() as connection:
        mine = await membership.bars_of(connection, session.person)
    lines: list[views.VenueLine | None] = []
    for start in range(0, len(mine), _AT_ONCE):  # asked for together, they are read together
        lines += await asyncio.gather(*(_line(found.hub, member) for member in mine[start : start + _AT_ONCE]))
    venues = sorted((line for line in lines if line is not None), key=lambda line: line.name.casefold())
    view = views.VenuesView(staff.signed_in(session), tuple(venues), is_operator=session.person.is_operator)
    return staff.page("venues.html", view)


async def _line(hub: Hub, member: Membership) -> views.VenueLine | None:
    try:
        known = await hub.known(member.bar_id)
    except BarNotFound:
        return None
    except (DatabaseFault, SchemaError):
        name, slug, status = str(member.bar_id), "", status_view.status_unknown()
    else:
        name, slug = known.offer.bar.name, known.offer.bar.slug or ""
        status = status_view.status(known.facts, known.reason, known.warnings, version=known.offer.version)
    return views.VenueLine(bar_id=str(member.bar_id), slug=slug, name=name, role=member.role, status=status)
