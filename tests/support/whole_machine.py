"""The transition machine: whole operations of everybody on some bars, with faults, each held against the oracle.

A lane does one operation after another on its own bars; several lanes run at once on one database. Everything is drawn
from the seed: the same seed and lane give the same operations again.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from mpesa_sync import MpesaMigrationService, MpesaSyncManager
from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import (
    AmbiguousEnvironment,
    BarNotFound,
    CredentialsMissing,
    DatabaseFault,
    MpesaSyncError,
    OperationConflict,
)
from mpesa_sync.identity.people import Person
from mpesa_sync.migration.report import InconsistentRecord
from mpesa_sync.secret import Secret
from mpesa_sync.sync.settings_service import SettingsService
from tests.support.venues import KEYS, SEALED, SECRETS, add_bar
from tests.support.whole_faults import Lane
from tests.support.whole_model import (
    AMBIGUOUS,
    ENVIRONMENTS,
    FAULTS,
    MISSING,
    SITES,
    Model,
    Trouble,
    Verdict,
    verdict,
)

Named = Literal["sandbox", "production"] | None
Switch = Callable[[Database, UUID, bool, Named, UUID], Awaitable[Any]]
_SEE: Final = """
select b.mpesa_enabled,
       (select json_object_agg(c.environment, c.is_active)::text from public.mpesa_credentials c
         where c.tenant_id = b.id) as flags,
       (select json_object_agg(a.kind, a.count)::text from mpesa_sync.alerts a
         where a.bar_id = b.id and a.state <> 'resolved') as alerts,
       (select o.outcome from mpesa_sync.operations o where o.id = $2) as outcome
  from (select $1::uuid as id) wanted left join public.bars b on b.id = wanted.id
"""
_EXISTS: Final = "select count(*) from public.bars where id = $1"
_MEMBER: Final = "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, 'owner')"
_FLAG: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
_ROW: Final = "update public.mpesa_credentials set is_active = $3 where tenant_id = $1 and environment = $2"
_DELETE_ROW: Final = "delete from public.mpesa_credentials where tenant_id = $1 and environment = $2"
_INSERT_ROW: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, '600123', $3, $4, $5, $6)
"""
_PASSKEY: Final = "select passkey_enc from public.mpesa_credentials where tenant_id = $1 and environment = $2"
REFUSALS: Final = {MISSING: CredentialsMissing, AMBIGUOUS: AmbiguousEnvironment}
_TROUBLED: Final = 0.3
BARS: Final = 3


async def switch_by_manager(database: Database, bar: UUID, on: bool, named: Named, operation_id: UUID) -> Any:
    """Switch as the project does."""
    return await MpesaSyncManager(database).sync_mpesa_status(bar, on, environment=named, operation_id=operation_id)


class Machine:
    """One lane. `told` counts what was done and what came of it; the first thing that is wrong raises."""

    def __init__(
        self, number: int, seed: int, database: Database, sql: Any, person: Person, switch: Switch = switch_by_manager
    ) -> None:
        self.told: Counter[str] = Counter()
        self.applied: set[UUID] = set()
        self._lane = Lane(sql, number)
        self._draw = random.Random(f"{seed}/{number}")
        self._db, self._sql, self._person, self._switch = database, sql, person, switch
        self._saves = SettingsService(database)
        self._models: list[Model] = []
        self._repeatable: tuple[UUID, UUID, bool] | None = None
        self._wanted: tuple[UUID, str | None] = (UUID(int=0), None)

    async def run(self, transitions: int) -> None:
        """Do this many whole operations, and compare what is committed with the model after each."""
        await self._lane.open()
        self._models = [await self._new_bar() for _ in range(BARS)]
        often = (*[self._do_switch] * 6, *[self._do_save] * 4, *[self._do_repair] * 3, *[self._do_legacy] * 4)
        doing = (*often, self._do_rows, self._do_delete, self._do_repeat, self._do_migrate, self._do_look)
        for _ in range(transitions):
            place = self._draw.randrange(BARS)
            do = self._draw.choice(doing)
            await do(place)
            self.told["transitions"] += 1

    def _id(self) -> UUID:
        return UUID(int=self._draw.getrandbits(128), version=4)

    def _flag(self) -> bool:
        return self._draw.random() < 0.5

    async def _new_bar(self) -> Model:
        bar = await add_bar(self._sql, production=False, bar_id=self._id())
        await self._sql.execute(_MEMBER, self._person.id, bar)
        return Model(bar, flags={"production": False}, passkeys={"production": ""})

    # Operations of ours: each may meet a fault.

    async def _ours(self, name: str, model: Model, call: Callable[[UUID], Awaitable[Any]]) -> tuple[Any, Verdict]:
        """Make a call that no rule refuses; return its answer, None where the fault won, and what had to become."""
        operation_id, trouble = self._id(), None
        if self._draw.random() < _TROUBLED:
            trouble = Trouble(self._draw.choice(SITES), self._draw.choice(FAULTS), self._draw.choice((1, 2, 3, 4)))
            await self._lane.arm(model.bar, trouble)
        answer, error = None, None
        try:
            answer = await call(operation_id)
        except DatabaseFault as fault:
            error = fault
        hits = await self._lane.disarm(model.bar, trouble) if trouble else 0
        must = verdict(trouble, hits)
        assert (error is None) is must.applied, f"{name}: {trouble} met {hits} times, and {error!r}"
        if error is not None:
            assert error.attempts == must.attempts, f"{name}: {trouble}: {error.attempts} attempts"
            model.open[must.alert or ""] += 1
        else:
            self.applied.add(operation_id)
        self.told[f"{name}: {'applied' if must.applied else 'failed'}"] += 1
        if trouble is not None and hits:
            self.told.update((f"at {trouble.site}", f"fault {trouble.fault}", "faults met"))
        self.told["buried"] += must.buried
        self._wanted = (operation_id, "applied" if must.applied else "failed" if must.buried else None)
        return answer, must

    async def _refused(self, name: str, call: Awaitable[Any], refusal: type[MpesaSyncError]) -> None:
        """See that a call is refused, for the caller's own mistake."""
        try:
            await call
        except refusal:
            self.told[f"{name}: refused"] += 1
            return
        raise AssertionError(f"{name} was not refused with {refusal.__name__}")

    async def _do_switch(self, place: int) -> None:
        model, on = self._models[place], self._flag()
        named: Named = self._draw.choice((None, None, *ENVIRONMENTS)) if on else None
        expected = model.switched(on, named)
        if expected in REFUSALS:
            call = self._switch(self._db, model.bar, on, named, self._id())
            await self._refused("switch", call, REFUSALS[expected])
        else:

            async def switch(operation_id: UUID) -> Any:
                return await self._switch(self._db, model.bar, on, named, operation_id)

            _, must = await self._ours("switch", model, switch)
            if must.applied:
                model.set_to(expected)
                self._repeatable = (model.bar, self._wanted[0], on) if named is None else self._repeatable
        await self._check(model)

    async def _do_save(self, place: int) -> None:
        model, environment = self._models[place], self._draw.choice(ENVIRONMENTS)
        enabled = self._draw.choice((True, False, None))
        is_new = environment not in model.flags
        passkey = f"passkey-{self._draw.getrandbits(96):024x}" if is_new or self._flag() else None
        secrets: dict[str, Any] = {"passkey": passkey and Secret(passkey)}
        if is_new:
            secrets |= {"shortcode": "600123", "consumer_key": SECRETS[0], "consumer_secret": SECRETS[1]}
        change = SettingsChange(model.bar, enabled=enabled, environment=Environment(environment), **secrets)

        async def save(operation_id: UUID) -> Any:
            return await self._saves.save(change, self._person, operation_id=operation_id)

        _, must = await self._ours("save", model, save)
        if must.applied:
            self.applied.add(uuid5(self._wanted[0], "status"))
            model.saved(environment, enabled, passkey)
            await self._check_passkey(model, environment)
        await self._check(model)

    async def _do_repair(self, place: int) -> None:
        model = self._models[place]

        async def repair(operation_id: UUID) -> Any:
            manager = MpesaSyncManager(self._db)
            return await manager.repair_inconsistency(model.bar, actor="machine", operation_id=operation_id)

        answer, must = await self._ours("repair", model, repair)
        if must.applied:
            assert answer.repaired is model.repaired(), "what a repair says it did"
        await self._check(model)

    async def _do_repeat(self, place: int) -> None:
        """Ask again for the last switch under its id: the stored answer, whatever has happened since; or misuse it."""
        if self._repeatable is not None:
            bar, operation_id, on = self._repeatable
            if self._flag():
                answer = await self._switch(self._db, bar, on, None, operation_id)
                assert (answer.success, answer.operation_id) == (True, operation_id)
                self.told["repeat: replayed"] += 1
            else:
                call = self._switch(self._db, bar, not on, None, operation_id)
                await self._refused("repeat", call, OperationConflict)
        self._wanted = (self._id(), None)
        await self._check(self._models[place])

    async def _do_migrate(self, place: int) -> None:
        model = self._models[place]
        record = InconsistentRecord(
            bar_id=model.bar,
            credentials_active=model.authority,
            bar_mpesa_enabled=model.enabled,
            last_updated=None,
            direction="hidden" if model.authority else "exposed",
        )
        result = await MpesaMigrationService(self._db).migrate_record(record, actor="machine")
        assert result.outcome.value == ("fixed" if model.drifted else "already_consistent")
        if model.drifted:
            model.repaired()
        self.told[f"migrate: {result.outcome.value}"] += 1
        await self._check(model)

    async def _do_look(self, place: int) -> None:
        model = self._models[place]
        verdict_ = await MpesaSyncManager(self._db).validate_sync(model.bar)
        assert (verdict_.is_consistent, verdict_.bar_mpesa_enabled) == (not model.drifted, model.enabled)
        self.told["look"] += 1

    # Operations of others.

    async def _do_legacy(self, place: int) -> None:
        model, on, which = self._models[place], self._draw.choice((True, False, None)), self._draw.randrange(4)
        environment = self._draw.choice(sorted(model.flags)) if model.flags else "sandbox"
        steps = [(_FLAG, (model.bar, on)), (_ROW, (model.bar, environment, on))]
        steps = steps[:1] if which == 0 else steps[1:] if which == 1 else steps if which == 2 else steps[::-1]
        aborted = self._draw.random() < 0.1
        transaction = self._sql.transaction()
        await transaction.start()
        for statement, arguments in steps:
            await self._sql.execute(statement, *arguments)
        await (transaction.rollback() if aborted else transaction.commit())
        if not aborted:
            model.enabled = on if which != 1 else model.enabled
            if which != 0 and environment in model.flags:
                model.flags[environment] = on
        self.told["legacy: rolled back" if aborted else "legacy: written"] += 1
        await self._check(model)

    async def _do_rows(self, place: int) -> None:
        model, environment = self._models[place], self._draw.choice(ENVIRONMENTS)
        if environment in model.flags:
            await self._sql.execute(_DELETE_ROW, model.bar, environment)
            del model.flags[environment], model.passkeys[environment]
        else:
            flag = self._draw.choice((True, False, None))
            await self._sql.execute(_INSERT_ROW, model.bar, environment, *SEALED, flag)
            model.flags[environment], model.passkeys[environment] = flag, ""
        self.told["rows"] += 1
        await self._check(model)

    async def _do_delete(self, place: int) -> None:
        gone = self._models[place].bar
        await self._sql.execute("delete from public.bars where id = $1", gone)
        manager = MpesaSyncManager(self._db)
        await self._refused("deleted", manager.sync_mpesa_status(gone, self._flag()), BarNotFound)
        assert await self._sql.fetchval(_EXISTS, gone) == 0
        self._models[place] = await self._new_bar()
        self._wanted = (self._id(), None)
        await self._check(self._models[place])

    # What is committed.

    async def _check(self, model: Model) -> None:
        """Hold both fields, the open alerts and the operation, read in one statement, against the model."""
        operation_id, outcome = self._wanted
        seen = await self._sql.fetchrow(_SEE, model.bar, operation_id)
        assert seen["mpesa_enabled"] is model.enabled, f"the flag is {seen['mpesa_enabled']}, not {model}"
        assert json.loads(seen["flags"] or "{}") == model.flags, f"the rows are {seen['flags']}, not {model}"
        assert json.loads(seen["alerts"] or "{}") == dict(model.open), f"alerts are {seen['alerts']}, not {model}"
        assert seen["outcome"] == outcome, f"the operation is {seen['outcome']}, not {outcome}"

    async def _check_passkey(self, model: Model, environment: str) -> None:
        """See that the passkey opens to the one that was saved last."""
        stored = await self._sql.fetchval(_PASSKEY, model.bar, environment)
        wanted = model.passkeys[environment] or SECRETS[2].reveal()
        assert open_stored(KEYS, stored).secret.reveal() == wanted, "the passkey that was saved"
