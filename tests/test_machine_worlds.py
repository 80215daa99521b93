"""The oracle of the machine over real processes: what is impossible turns it red, and what is open stays open."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from mpesa_sync.db.pool import Database
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.identity.people import Person
from mpesa_sync.sync.settings_service import SettingsService
from tests.support.e2e_eyes import Eyes
from tests.support.e2e_model import (
    APPLIED,
    REFUSED,
    Op,
    Seen,
    World,
    migrated,
    repaired,
    switched,
    taken_back,
    unheeded,
    written,
)
from tests.support.e2e_worlds import Bar, Red
from tests.support.people import add_account, person
from tests.support.venues import add_bar

_CREDENTIALS = "update public.mpesa_credentials set is_active = $2 where tenant_id = $1"
_FLAG = "update public.bars set mpesa_enabled = $2 where id = $1"
OFF = World(Seen(enabled=False, production=False))


class Desk:
    """One bar with production credentials, its owner, and the oracle of it."""

    def __init__(self, database: Database, sql: Any, owner: Person, bar_id: UUID) -> None:
        self._saves, self._owner = SettingsService(database), owner
        self.sql, self.eyes, self.bar = sql, Eyes(sql), Bar(bar_id, OFF)

    async def switches(self, *, on: bool) -> None:
        """Switch as staff do."""
        await self._saves.save(SettingsChange(self.bar.id, enabled=on), self._owner)

    async def looks(self) -> None:
        """Hold what is committed against the worlds."""
        self.bar.looks((await self.eyes.all())[self.bar.id])


@pytest.fixture
async def desk(db: Database, sql: Any) -> Desk:
    """A bar that is off."""
    bar_id = await add_bar(sql, production=False)
    return Desk(db, sql, person(await add_account(db, "Asha", owner=bar_id)), bar_id)


async def test_what_was_done_is_possible(desk: Desk) -> None:
    """The oracle agrees with a switch, another program and a lost answer that came through (T8.2)."""
    await desk.switches(on=True)
    desk.bar.does(switched(True, None), answer=APPLIED)
    await desk.looks()
    await desk.sql.execute(_FLAG, desk.bar.id, False)
    desk.bar.does(written(guarded=False, enabled=False))
    await desk.looks()
    desk.bar.loses(1, switched(True, None))
    await desk.switches(on=True)
    await desk.looks()
    assert [world.fate(1) for world in desk.bar.worlds] == [APPLIED]


async def test_half_of_a_pair_that_staff_are_said_to_have_written_is_red(desk: Desk) -> None:
    """The twin: two commits instead of one, seen between them."""
    await desk.sql.execute(_CREDENTIALS, desk.bar.id, True)
    desk.bar.does(switched(True, None), answer=APPLIED)
    with pytest.raises(Red):
        await desk.looks()


async def test_a_pair_without_its_audit_entry_is_red(desk: Desk) -> None:
    """The twin: audit equals operations."""
    await desk.sql.execute(_CREDENTIALS, desk.bar.id, True)
    await desk.sql.execute(_FLAG, desk.bar.id, True)
    desk.bar.does(switched(True, None), answer=APPLIED)
    with pytest.raises(Red):
        await desk.looks()


async def test_a_request_that_is_done_twice_is_red(desk: Desk) -> None:
    """The twin: a repeat that is applied again, though it changes nothing that a customer sees."""
    desk.bar.loses(1, switched(True, None))
    await desk.switches(on=True)
    await desk.switches(on=True)
    with pytest.raises(Red):
        await desk.looks()


async def test_a_request_that_is_done_after_its_server_died_is_red(desk: Desk) -> None:
    """The twin: what was not done when the server died is never done."""
    desk.bar.loses(1, switched(True, None))
    await desk.looks()
    desk.bar.is_over(1)
    await desk.switches(on=True)
    with pytest.raises(Red):
        await desk.looks()


async def test_drift_that_guards_should_have_healed_is_red(desk: Desk) -> None:
    """The twin: a guard that does not stand is said to."""
    await desk.sql.execute(_FLAG, desk.bar.id, True)
    desk.bar.does(written(guarded=True, enabled=True))
    with pytest.raises(Red):
        await desk.looks()


def test_a_lost_request_keeps_both_worlds_open_until_somebody_sees_one() -> None:
    """An unknown outcome is a set of worlds; another program's write is put into each of them."""
    bar = Bar(uuid4(), OFF)
    bar.loses(1, switched(True, None))
    bar.does(written(guarded=False, sandbox=False))
    assert {world.seen.cell for world in bar.possible()} == {
        (False, False, False),
        (True, False, True),
    }
    kept = {world.fate(1) for world in bar.possible()}
    assert kept == {"open", APPLIED, REFUSED}, "with both rows nobody knows which is meant: refused if it comes late"
    bar.hears(1, REFUSED)
    assert {world.seen.cell for world in bar.worlds} == {(False, False, False)}


def test_the_reconciler_may_come_between_any_two_steps_and_leaves_an_entry() -> None:
    """Background work is a world, too: with its entry, and not without."""
    bar = Bar(uuid4(), OFF)
    bar.is_swept = True
    bar.does(written(guarded=False, enabled=True))
    drifted = Seen(enabled=True, production=False)
    assert {world.seen for world in bar.possible()} == {drifted, drifted._replace(enabled=False, swept=1)}
    with pytest.raises(Red):
        bar.looks(drifted._replace(enabled=False))


@pytest.mark.parametrize(
    ("op", "before", "after"),
    [
        (repaired, Seen(enabled=True), Seen(enabled=False, repairs=1)),
        (repaired, Seen(enabled=None), Seen(enabled=None, repairs=1)),
        (migrated, Seen(enabled=None, sandbox=True), Seen(enabled=True, sandbox=True, journal=1)),
        (migrated, Seen(enabled=None), Seen(enabled=None)),
        (taken_back(True, None), Seen(enabled=True, sandbox=True), Seen(enabled=None, sandbox=True, journal=1)),
        (taken_back(True, None), Seen(enabled=False, sandbox=True), Seen(enabled=False, sandbox=True)),
        (written(guarded=True, production=True), Seen(enabled=False), Seen(enabled=True, production=True)),
        (written(guarded=True, enabled=None), Seen(enabled=False), Seen(enabled=None)),
        (unheeded(enabled=True), Seen(enabled=True), Seen(enabled=True)),
    ],
)
def test_what_others_do_is_as_the_specification_says(op: Op, before: Seen, after: Seen) -> None:
    """Spec 2, R2, R5.4, G: what becomes of both fields, and which entry it leaves."""
    assert op(World(before))[1].seen == after


def test_an_answer_that_is_given_in_no_world_is_red() -> None:
    """Switching on without credentials cannot be answered with success."""
    with pytest.raises(Red):
        Bar(uuid4()).does(switched(True, None), answer=APPLIED)
