"""What others do in the machine over real processes: old programs in SQL, operators by commands."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.support.e2e_machine import Machine, Rule
from tests.support.e2e_model import (
    ENVIRONMENTS,
    Seen,
    checked,
    drifted,
    migrated,
    repaired,
    taken_back,
    unheeded,
    written,
)
from tests.support.e2e_worlds import Bar, Red
from tests.support.migrate_cli import counts
from tests.support.states import STATES, State, put
from tests.support.venues import SEALED, Flag

_FLAG: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
_ROW: Final = "update public.mpesa_credentials set is_active = $3 where tenant_id = $1 and environment = $2"
_DELETE_ROW: Final = "delete from public.mpesa_credentials where tenant_id = $1 and environment = $2"
_INSERT_ROW: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, '600123', $3, $4, $5, $6)
"""
_FLAGS: Final[tuple[Flag, ...]] = (True, False, None)
_FRESH: Final = 0.5
"""How many undos take back a run that has just found something."""
_OBSERVING: Final = {"MPESA_SYNC_RECONCILE": "observe"}
"""An undo is refused by a program that would repair what it takes back."""


class Programs:
    """Old programs, which write either table as they like."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._draw = machine, machine.draw

    @property
    def rules(self) -> dict[str, Rule]:
        """Return what they do, by name."""
        return {
            "program: the flag": self._flag,
            "program: a row": self._row,
            "program: the pair": self._pair,
            "program: deletes a row": self._delete,
            "program: inserts a row": self._insert,
            "program: any state": self._state,
        }

    async def _write(self, bar: Bar, *statements: tuple[str, tuple[Any, ...]], **fields: Any) -> bool:
        """Run these in one transaction; what a deadlock refuses is not done."""
        sql = self._machine.place.sql
        self._machine.others_wrote = True
        try:
            async with sql.transaction():
                for statement, arguments in statements:
                    await sql.execute(statement, bar.id, *arguments)
        except asyncpg.DeadlockDetectedError:
            self._machine.met["program: deadlock"] += 1
            return True
        self._wrote(bar, **fields)
        return True

    def _wrote(self, bar: Bar, **fields: Any) -> None:
        guarded = self._machine.guarded
        later = [unheeded(**fields)] if guarded and bar not in self._machine.clean else []
        bar.does(written(guarded=guarded, **fields), *later)

    def _bar(self, least: int = 0, most: int = 2) -> Bar | None:
        """Draw a bar that has so many credentials rows, None where there is none."""
        bars = [bar for bar in self._machine.open_bars if least <= len(bar.seen.flags) <= most]
        return self._draw.choice(bars) if bars else None

    async def _flag(self) -> bool:
        bar, on = self._draw.choice(self._machine.open_bars), self._draw.choice(_FLAGS)
        return await self._write(bar, (_FLAG, (on,)), enabled=on)

    async def flip(self, bar: Bar) -> None:
        """Make the flag say what the credentials do not."""
        on = not bar.seen.authority
        await self._write(bar, (_FLAG, (on,)), enabled=on)

    async def _row(self) -> bool:
        bar, on = self._bar(least=1), self._draw.choice(_FLAGS)
        if bar is None:
            return False
        name = self._draw.choice(sorted(bar.seen.flags))
        return await self._write(bar, (_ROW, (name, on)), **{name: on})

    async def _pair(self) -> bool:
        """Write both, in one order or the other; a careless program in two transactions."""
        bar, on, shown = self._bar(least=1), self._draw.choice(_FLAGS), self._draw.choice(_FLAGS)
        if bar is None:
            return False
        name = self._draw.choice(sorted(bar.seen.flags))
        steps: list[tuple[tuple[str, tuple[Any, ...]], dict[str, Any]]]
        steps = [((_FLAG, (shown,)), {"enabled": shown}), ((_ROW, (name, on)), {name: on})]
        if self._draw.random() < 0.5:
            steps.reverse()
        if self._draw.random() < 0.5:
            return await self._write(bar, *(step for step, _ in steps), enabled=shown, **{name: on})
        for step, fields in steps:
            await self._write(bar, step, **fields)
        return True

    async def _delete(self) -> bool:
        bar = self._bar(least=1)
        if bar is None:
            return False
        name = self._draw.choice(sorted(bar.seen.flags))
        return await self._write(bar, (_DELETE_ROW, (name,)), **{name: "absent"})

    async def _insert(self) -> bool:
        if (bar := self._bar(most=1)) is None:
            await self._delete()
            await self._machine.look()
            bar = self._bar(most=1)
        on = self._draw.choice(_FLAGS)
        if bar is None:
            return False
        name = self._draw.choice([name for name in ENVIRONMENTS if name not in bar.seen.flags])
        try:
            return await self._write(bar, (_INSERT_ROW, (name, *SEALED, on)), **{name: on})
        except asyncpg.UniqueViolationError:  # a request that was lost has made it just now
            return False

    async def _state(self) -> bool:
        """Bring a bar into any of the 48 states at once, one that was not met yet where there is such."""
        bar, cells = self._draw.choice(self._machine.open_bars), self._machine.cells
        new = [one for one in STATES if (one.mpesa_enabled, one.sandbox, one.production) not in cells]
        state: State = self._draw.choice(new or STATES)
        self._machine.others_wrote = True
        try:
            await put(self._machine.place.sql, bar.id, state)
        except asyncpg.DeadlockDetectedError:
            self._machine.met["program: deadlock"] += 1
            return True
        fields: dict[str, Any] = {"enabled": state.mpesa_enabled}
        fields |= {"sandbox": state.sandbox, "production": state.production}
        self._wrote(bar, **fields)
        return True


class Operators:
    """Operators at the command line.

    `runs`: of each migration that changed something the bars, with what it left and found.
    `changes`: everything that runs and undone runs have changed: run, bar, before, after."""

    def __init__(self, machine: Machine, programs: Programs) -> None:
        self._machine, self._draw, self._programs = machine, machine.draw, programs
        self.runs: dict[str, dict[UUID, tuple[Flag, Flag]]] = {}
        self.changes: list[tuple[UUID, UUID, Flag, Flag]] = []

    @property
    def rules(self) -> dict[str, Rule]:
        """Return what they do, by name."""
        return {
            "operator: check": self._check,
            "operator: repair": self._repair,
            "operator: migrate": self.migrate,
            "operator: undo": self._undo,
            "operator: guards": self._guards,
        }

    async def _check(self) -> bool:
        ended = await self._machine.place.cli("check", "--json")
        report, bars = ended.json, self._machine.bars
        found = {UUID(record["bar_id"]): record for record in report["records"]}
        drift = report["drift"]["hidden"] + report["drift"]["exposed"]
        assert (report["bars"], report["consistent"] + drift, drift) == (len(bars), len(bars), len(found)), report
        assert ended.code == (2 if drift else 0), ended
        for bar in bars:
            record = found.get(bar.id)
            if record is None:
                bar.does(drifted)
            else:
                bar.does(checked, answer=(record["direction"], record["authority"], record["shown"]))
        return True

    async def _repair(self) -> bool:
        bar = self._machine.any_bar()
        ended = await self._machine.place.cli("repair", str(bar.id), "--actor", "machine")
        assert ended.code == 0, ended
        bar.does(repaired, answer=": repaired." in ended.out)
        return True

    async def migrate(self) -> bool:
        """Correct all bars; its report must be what its journal says."""
        before = {bar: bar.seen for bar in self._machine.bars}
        ended = await self._machine.place.cli("migrate", "--yes", "--json", "--actor", "machine")
        report = counts(ended)
        assert (ended.code, report["state"], report["verified"]) == (0, "done", True), ended
        for bar in self._machine.bars:
            bar.does(migrated)
            bar.worlds = {world for world in bar.worlds if world.seen.direction is None}
        await self.journalled(report["run"], before, fixed=report["fixed"])
        return True

    async def journalled(self, run: str, before: dict[Bar, Seen], *, fixed: int | None) -> None:
        """Look, and note which bars a run has changed: as many as it says."""
        await self._machine.look()
        changed = {bar: was for bar, was in before.items() if bar.seen.journal > was.journal}
        if fixed is not None and len(changed) != fixed:
            raise Red(f"{run} says that it has changed {fixed} bars, and journalled {len(changed)}")
        if changed:
            self.runs[run] = {bar.id: (was.enabled is not True, was.enabled) for bar, was in changed.items()}
        self.changes += [(UUID(run), bar.id, was.enabled, was.enabled is not True) for bar, was in changed.items()]

    async def _undo(self) -> bool:
        """Take a run back, one that has just ended or any."""
        if not self._machine.guarded and (not self.runs or self._draw.random() < _FRESH):
            await self._programs.flip(self._draw.choice(self._machine.open_bars))
            await self._machine.look()
            await self.migrate()
        runs = list(self.runs)
        if not runs:
            return False
        run = runs[-1] if self._draw.random() < 0.7 else self._draw.choice(runs)
        before = {bar: bar.seen for bar in self._machine.bars}
        ended = await self._machine.place.cli("migrate", "undo", run, "--yes", "--json", **_OBSERVING)
        if self._machine.guarded:
            assert ended.code == 1, ended
            self._machine.met["undo refused"] += 1
            return True
        assert ended.code == 0, ended
        report = json.loads(ended.out.splitlines()[-1])
        for bar in self._machine.bars:
            if bar.id in self.runs[run]:
                bar.does(taken_back(*self.runs[run][bar.id]))
        await self._machine.look()
        changed = {bar: was for bar, was in before.items() if bar.seen.journal > was.journal}
        if len(changed) != report["fixed"]:
            raise Red(f"the undo says that it has changed {report['fixed']} bars, and journalled {len(changed)}")
        self.changes += [(UUID(report["run"]), bar.id, *self.runs[run][bar.id]) for bar in changed]
        self._machine.met["undo: bars"] += len(changed)
        return True

    async def without_guards(self) -> None:
        """Remove guards where they stand."""
        if self._machine.guarded:
            await self._guards()

    async def _guards(self) -> bool:
        """Install guards, or remove them."""
        machine = self._machine
        if machine.guarded:
            machine.guarded = False
            ended = await machine.place.cli("guard", "remove", "--yes")
            assert ended.code == 0, ended
        else:
            ended = await machine.place.cli("guard", "install", "--yes")
            assert ended.code in (0, 2), ended
            machine.guarded = True
        machine.met["guards on" if machine.guarded else "guards off"] += 1
        return True
