"""Everybody on real processes, one rule after the other from a seed, each held against all possible worlds (T8.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.prove.figures import SEED, TIMES
from tests.support.e2e_faults import Faults
from tests.support.e2e_machine import Machine
from tests.support.e2e_others import Customers, Operators, Programs
from tests.support.e2e_place import Place, place
from tests.support.e2e_staff import Staff

pytestmark = [pytest.mark.prove, pytest.mark.usefixtures("many_files"), pytest.mark.timeout(900)]

_JOURNAL: Final = "select run_id, bar_id, previous, current from mpesa_sync.migration_journal order by id"
_FLEET_ALERTS: Final = "select kind, state from mpesa_sync.alerts where bar_id is null"


class Whole:
    """The machine with everybody in it."""

    def __init__(self, found: Place, seed: int) -> None:
        self.machine = Machine(found, seed)
        self.staff, self.operators = Staff(self.machine), Operators(self.machine)
        programs, customers = Programs(self.machine), Customers(self.machine)
        self.rules = {**self.staff.rules, **programs.rules, **self.operators.rules, **customers.rules}
        self._faults = Faults(self.machine, self.staff, programs, self.operators)
        self.faults = self._faults.all

    async def run(self) -> None:
        """Play it to its end."""
        self.machine.sweeps(True)
        await self.machine.run(self.rules, self.faults, self.rest)

    async def rest(self) -> None:
        """All stand still: what was lost is known, nothing is drifted, and every open page shows what is stored."""
        await self.staff.settle_lost()
        await self._faults.until_swept()
        await self.operators.migrate()
        await self.machine.look()
        pages = self.machine.place.pages
        await pages.until_shown({bar.id: bar.seen.offer for bar in self.machine.bars})
        assert not [page for page in pages.all if page.went_back]
        alerts = [tuple(record) for record in await self.machine.place.sql.fetch(_FLEET_ALERTS)]
        assert set(alerts) <= {("reconciler_stale", "resolved")}, alerts
        assert len(alerts) <= self.machine.faults["clock jumped"], "one for each jump at most"

    async def over(self) -> None:
        """The processes end; nothing changes by that, and the journal is what the migrations have changed."""
        await self.machine.place.stop()
        self.machine.sweeps(False)
        await self.machine.look()
        journal = [tuple(record) for record in await self.machine.place.sql.fetch(_JOURNAL)]
        assert sorted(journal, key=str) == sorted(self.operators.changes, key=str)


@pytest.mark.parametrize("number", range(TIMES))
async def test_what_everybody_does_on_real_processes_is_possible(
    tmp_path: Path, database_url: str, number: int
) -> None:
    """Spec 4: nothing half, nothing lost or doubled; audit, journal and alerts say what was done; pages end right."""
    seed = SEED + number
    print(f"MPESA_SYNC_PROVE_SEED={seed} .venv/bin/python -m pytest -s tests/prove/test_machine_processes.py")
    async with place(tmp_path, database_url) as found:
        whole = Whole(found, seed)
        try:
            await whole.run()
            await whole.over()
        finally:
            machine = whole.machine
            for counted in (machine.fired, machine.faults, machine.skipped, machine.met):
                print(dict(sorted(counted.items())))
            print({name: round(took_s, 1) for name, took_s in sorted(machine.took_s.items())})
        swept = sum(bar.seen.swept for bar in machine.bars)
        print("cells", len(machine.cells), "repaired by the reconciler", swept)
        assert swept > 0
        assert machine.covered(whole.rules, whole.faults) == []
