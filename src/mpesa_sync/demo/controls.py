"""What can be broken and mended on the /demo page: each control as data, and what it says afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from mpesa_sync.demo import killing, legacy, venues
from mpesa_sync.demo.desk import Desk
from mpesa_sync.demo.killing import Survived
from mpesa_sync.demo.observer import Fields
from mpesa_sync.demo.venues import Venue
from mpesa_sync.errors import DatabaseFault
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.service import MpesaMigrationService

Act = Callable[[Desk, Venue, bool], Awaitable[str]]
"""Does it, for a venue and the value that its button named, and returns what happened."""
REASON: Final = "the /demo page"
_MOST_ASKS: Final = 20


@dataclass(frozen=True, slots=True)
class Control:
    """One control. `on`, `off`: its button where what it writes is false now, and where it is true.

    `text` says what it does, what to look at, and how to mend it.
    """

    id: str
    title: str
    text: str
    act: Act
    on: str
    off: str
    mends: bool = False
    writes_shown: bool = False

    def wants(self, now: Fields) -> bool:
        """Return the value that its button would write now: the other one."""
        return now.mpesa_enabled is not True if self.writes_shown else not now.active


async def _staff_app(desk: Desk, venue: Venue, on: bool) -> str:
    before = await desk.see(venue)
    done = await desk.outside.execute(legacy.STAFF_APP_ALL, venue.id, on)
    if done.endswith(" 0"):
        return f"UPDATE 0. {venue.name} has no credentials row: the old staff app has nothing to write."
    return f"The old staff app wrote is_active alone. {_told(before, await desk.see(venue))}"


async def _plain_sql(desk: Desk, venue: Venue, on: bool) -> str:
    before = await desk.see(venue)
    await desk.outside.execute(legacy.SUPPORT_SCRIPT, venue.id, on)
    return f"The script wrote mpesa_enabled alone. {_told(before, await desk.see(venue))}"


async def _save_cut(desk: Desk, venue: Venue, _on: bool) -> str:
    saved = await killing.in_the_middle(desk, venue)
    if saved.error is not None:
        return _not_saved(saved)
    return (
        f"Attempt 1 wrote the credentials, then its connection was cut ({saved.cuts} cut): PostgreSQL rolled it back. "
        f"Attempt 2 did all of it, in one transaction. {_told(saved.before, saved.after)}"
    )


async def _commit_cut(desk: Desk, venue: Venue, _on: bool) -> str:
    saved = await killing.at_commit(desk, venue)
    if saved.error is not None:
        return _not_saved(saved)
    return (
        f"COMMIT arrived, and its answer was lost ({saved.cuts} cut): done, or not? Attempt 2 asked by the operation's "
        f"id, found it done, and did nothing again: written down {_times(saved.times)}. "
        f"{_told(saved.before, saved.after)}"
    )


async def _every_time(desk: Desk, venue: Venue, _on: bool) -> str:
    saved = await killing.every_time(desk, venue)
    if saved.error is None:
        return f"It was saved all the same. {_told(saved.before, saved.after)}"
    return _not_saved(saved)


async def _kill_connections(desk: Desk, _venue: Venue, _on: bool) -> str:
    killed = await desk.outside.fetchval(legacy.KILL_CONNECTIONS)
    failed = await _until_answered(desk)
    return (
        f"{killed} connections ended by the database, that of the live feed among them. The server connected anew "
        f"({failed} requests failed meanwhile); the feed reads what it missed, and the pages go on: change something "
        "and see."
    )


async def _until_answered(desk: Desk) -> int:
    """Ask until the database answers; return how often it did not.

    Raises:
        DatabaseFault: it does not answer at all.
    """
    for failed in range(_MOST_ASKS):
        try:
            async with desk.database.reading():
                return failed
        except DatabaseFault:
            if failed == _MOST_ASKS - 1:
                raise
    return _MOST_ASKS


async def _switch(desk: Desk, venue: Venue, on: bool) -> str:
    before = await desk.see(venue)
    await desk.manager.sync_mpesa_status(venue.id, on, actor=desk.person.actor, reason=REASON)
    return f"Both fields in one transaction. {_told(before, await desk.see(venue))}"


async def _repair(desk: Desk, venue: Venue, _on: bool) -> str:
    before = await desk.see(venue)
    result = await desk.manager.repair_inconsistency(venue.id, actor=desk.person.actor, reason=REASON)
    if not result.repaired:
        return f"Both fields agree already: nothing was written. {_told(before, await desk.see(venue))}"
    return f"mpesa_enabled now follows is_active. {_told(before, await desk.see(venue))}"


async def _migrate(desk: Desk, _venue: Venue, _on: bool) -> str:
    run = await MpesaMigrationService(desk.database).run(RunOptions(actor=desk.person.actor, reason=REASON))
    report = run.report
    drifted = sum(fields.drift is not None for fields in (await desk.see_all()).values())
    verified = "a second pass over all venues found nothing more" if report.verified else "not verified"
    return (
        f"{report.drifted} venues had drifted: {report.fixed} corrected, {report.quarantined} could not be; "
        f"{verified}. Drifted now: {drifted}."
    )


async def _put_back(desk: Desk, _venue: Venue, _on: bool) -> str:
    async with desk.outside.acquire() as connection:
        await venues.put_back(connection, desk.database.keys)
    drifted = sum(fields.drift is not None for fields in (await desk.see_all()).values())
    return f"All {len(venues.VENUES)} venues are as at the start, {drifted} of them drifted. The audit stays as it is."


CONTROLS: Final = (
    Control(
        "staff-app",
        "The old staff app: is_active alone",
        "It does not write the field that customers' pages read. Look at: both values above, and the reason on the "
        "staff's page. Mend it with “Repair this venue”.",
        _staff_app,
        "Set is_active = true",
        "Set is_active = false",
    ),
    Control(
        "plain-sql",
        "Plain SQL: mpesa_enabled alone",
        "A support script writes the customers' field and nothing else. Look at: the customers' page, without a "
        "reload; a drifted venue is never offered M-Pesa. Mend it with “Repair this venue”.",
        _plain_sql,
        "Set mpesa_enabled = true",
        "Set mpesa_enabled = false",
        writes_shown=True,
    ),
    Control(
        "save-cut",
        "Database killed in the middle of a save",
        "Saves new credentials and the other status; the connection dies after the first of the two writes. Look at: "
        "attempts, and that all of it is there or nothing. Nothing to mend: it is tried again.",
        _save_cut,
        "Save, switch on, and kill it",
        "Save, switch off, and kill it",
    ),
    Control(
        "commit-cut",
        "Killed while COMMIT is under way",
        "The same save; the answer to COMMIT is lost, so nobody can know. Look at: it is applied once, not twice. "
        "Nothing to mend: the operation's id settles it.",
        _commit_cut,
        "Save, switch on, and lose the answer",
        "Save, switch off, and lose the answer",
    ),
    Control(
        "every-time",
        "Killed at every attempt",
        "The same save, and every retry is killed too. Look at: nothing is changed, and an alert is open. Mend it by "
        "switching once more: a success closes the alert.",
        _every_time,
        "Save, switch on, kill each attempt",
        "Save, switch off, kill each attempt",
    ),
    Control(
        "kill-connections",
        "All connections killed",
        "The database ends every connection of this server. Look at: both pages stay, and show the next change all "
        "the same. Nothing to mend: they connect again.",
        _kill_connections,
        "Kill all connections",
        "Kill all connections",
    ),
    Control(
        "switch",
        "Switch it properly",
        "What the staff's page does: both fields in one transaction. Look at: both pages change at once.",
        _switch,
        "Switch M-Pesa on",
        "Switch M-Pesa off",
        mends=True,
    ),
    Control(
        "repair",
        "Repair this venue",
        "Where the two fields disagree, mpesa_enabled is set to is_active: what staff have set wins.",
        _repair,
        "Repair this venue",
        "Repair this venue",
        mends=True,
    ),
    Control(
        "migrate",
        "Migrate all venues",
        "The same for every drifted venue, in batches, then verified by another pass over all.",
        _migrate,
        "Migrate all venues",
        "Migrate all venues",
        mends=True,
    ),
    Control(
        "put-back",
        "Put everything back",
        "All sample venues as they were at the start: in different states, some of them drifted.",
        _put_back,
        "Put everything back",
        "Put everything back",
        mends=True,
    ),
)
"""In the order of the page."""


def chosen(control_id: str) -> tuple[Control, bool] | None:
    """Return the control and the value that a posted id, `control:on` or `control:off`, means."""
    name, _, wanted = control_id.partition(":")
    control = next((control for control in CONTROLS if control.id == name), None)
    return None if control is None or wanted not in ("on", "off") else (control, wanted == "on")


def _not_saved(saved: Survived) -> str:
    assert saved.error is not None
    if saved.cuts == 0:
        return f"Refused before anything was cut: {saved.error.message} {_told(saved.before, saved.after)}"
    kept = "Not a byte was changed" if saved.wrote_nothing else "Something was changed"
    return (
        f"{saved.error.attempts} attempts, {saved.cuts} cuts, then given up: {saved.error.message} {kept}, and an "
        f"alert is open for a person. {_told(saved.before, saved.after)}"
    )


def _told(before: Fields, after: Fields) -> str:
    """Return both fields, before and after, and what that means."""
    old, new = before.values(), after.values()
    changes = ", ".join(
        f"{name}: {_word(old.get(name))} → {_word(value)}" if old.get(name) is not value else f"{name}: {_word(value)}"
        for name, value in new.items()
    )
    verdict = {
        "hidden": "They disagree: switched on, and customers are not offered it (hidden).",
        "exposed": "They disagree: switched off, and other customer pages may still offer it (exposed).",
    }
    return f"Now: {changes}. {verdict.get(after.drift or '', 'They agree.')}"


def _word(flag: bool | None) -> str:
    return "NULL" if flag is None else str(flag).lower()


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
