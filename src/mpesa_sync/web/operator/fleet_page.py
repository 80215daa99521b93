"""Reads what the overview of all venues shows, and puts it together. Writes nothing.

Each part that cannot be had is said to be missing, and the others are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from mpesa_sync.db import alerts, guards, installation, overview, reconciler
from mpesa_sync.db.overview import Asked, State
from mpesa_sync.domain.availability import Direction
from mpesa_sync.domain.inputs import bar_uuid, line_of_text
from mpesa_sync.errors import DatabaseFault, InvalidInput
from mpesa_sync.identity.sessions import Session
from mpesa_sync.live import offers
from mpesa_sync.live.offers import Judge
from mpesa_sync.sync.reconciler_policy import Rhythm, policy_on
from mpesa_sync.web import fleet_view, views
from mpesa_sync.web.context import Context
from mpesa_sync.web.fleet_view import FleetList, FleetView, Health
from mpesa_sync.web.operator.fleet_counts import StoredCounts
from mpesa_sync.web.operator_texts import text
from mpesa_sync.web.staff import session as staff

PAGE: Final = 25
"""How many venues a page shows."""
_LONGEST: Final = 100


async def read(
    context: Context, session: Session, stored: StoredCounts, *, which: str = "", words: str = "", after: str = ""
) -> FleetView:
    """Return the overview.

    Arguments:
        which: a state or a direction of drift, of which venues are listed; "" and what is neither: of all.
        words: what is searched for in names, slugs and ids.
        after: the venue that the page before ended with, "" for the first page.
    Raises:
        InvalidInput: `after` is not what a page of ours links to.
        SchemaError: the tables are not as they should be.
    """
    asked, error = _asked(which, words, after)
    counted, is_fresh = await stored.read()
    return FleetView(
        person=staff.signed_in(session),
        counts=None
        if counted is None
        else fleet_view.counts(counted.counts, is_fresh=is_fresh, sampled=counted.sampled, unusable=counted.hidden),
        health=await _health(context),
        feed=fleet_view.feed(context.hub.state),
        choices=fleet_view.choices(which),
        words=views.typed(words, longest=_LONGEST),
        error=error,
        list=FleetList((), fault=error) if error else await _list(context, asked, which),
    )


def _asked(which: str, words: str, after: str) -> tuple[Asked, str]:
    """Return what is asked for, and what is wrong with the words."""
    state = State(which) if which in tuple(State) else None
    direction = which if which in tuple(Direction) else None
    last = bar_uuid(after, "after") if after else None
    try:
        words = line_of_text("q", words, shortest=0, longest=_LONGEST)
    except InvalidInput as error:
        return Asked(), text("fleet.search.wrong", reason=error.message.removeprefix("q: "))
    return Asked(state, direction, words, last), ""


async def _list(context: Context, asked: Asked, which: str) -> FleetList:
    """Return a page of the list. What customers see at these venues is read as their pages read it, secrets opened."""
    database = context.database
    try:
        async with database.reading(overview.READ) as connection:
            allow_sandbox = await installation.allows_sandbox(connection, database)
            found = await overview.page(connection, asked, allow_sandbox=allow_sandbox, limit=PAGE + 1)
        known = await offers.read(database, Judge(database.keys, database.allow_sandbox), found[:PAGE])
    except DatabaseFault:
        return FleetList((), fault=text("fleet.list.fault"))
    return FleetList(
        venues=tuple(fleet_view.venue(known[bar_id]) for bar_id in found[:PAGE] if bar_id in known),
        following=_path(which, asked.words, found) if len(found) > PAGE else "",
        first=fleet_view.path(which, asked.words) if asked.after else "",
    )


def _path(which: str, words: str, found: Sequence[UUID]) -> str:
    return fleet_view.path(which, words, str(found[PAGE - 1]))


async def _health(context: Context) -> Health | None:
    """Return how guards and sweeps stand, and how many alerts are open; None where it cannot be read."""
    try:
        async with context.database.reading() as connection:
            guarded = await guards.status(connection)
            hits = await guards.counts(connection)
            sweeps = await reconciler.state(connection)
            policy = await policy_on(connection, context.database)
            counts = await alerts.counts(connection)
    except DatabaseFault:
        return None
    return Health(
        guards=fleet_view.guards(guarded, hits),
        reconciler=fleet_view.reconciler(policy, sweeps, Rhythm()),
        open_alerts=sum(number for (_, state), number in counts.items() if state != "resolved"),
    )
