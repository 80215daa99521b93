"""`db status`: which database this is, whether it fits, and whether the role may do what it must. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import AsJson, DatabaseUrl, names
from mpesa_sync.cli.output import labelled, moment
from mpesa_sync.cli.session import host_of, on_database
from mpesa_sync.db import guards, identity, installation, migrations, reconciler, shape
from mpesa_sync.db.guards import GuardState
from mpesa_sync.db.identity import Role, RowSecurity, Server
from mpesa_sync.settings import LISTEN_URL
from mpesa_sync.sync.reconciler_policy import policy_on


class DatabaseStatus(msgspec.Struct, frozen=True):
    """Which database this is. `source` is what named it; `pooler`: whether one stands between."""

    host: str
    database: str
    source: str
    server_version: str
    supported: bool
    pooler: bool


class Installation(msgspec.Struct, frozen=True):
    """Our own schema. `mode` and `version` are None where it is absent, or the role may not read it."""

    installed: bool
    readable: bool
    mode: str | None
    version: int | None
    newest: int
    current: bool


class Platform(msgspec.Struct, frozen=True):
    """The platform's tables: what must be there and is not, what has an odd type, what may be there."""

    missing: list[str]
    odd: list[str]
    optional: Mapping[str, bool]
    user_bars_insert_policies: list[str]


class Guards(msgspec.Struct, frozen=True):
    """The guards: their state, and their mode, None where none are meant to be installed or the role may not know."""

    state: str
    mode: str | None
    notices: bool


class RoleStatus(msgspec.Struct, frozen=True):
    """The connected role. `lacks` names every right that is needed and not there."""

    name: str
    superuser: bool
    bypass_rls: bool
    lacks: list[str]
    sufficient: bool


class Reconciler(msgspec.Struct, frozen=True):
    """What the reconciler does here, when a sweep last came to its end, when it goes on; times are the server's."""

    policy: str
    last_success: datetime | None
    next_run: datetime


class Status(msgspec.Struct, frozen=True):
    """The object of `db status --json`. `ready`: everything is as mpesa-sync needs it, `db init` included."""

    database: DatabaseStatus
    installation: Installation
    platform: Platform
    role: RoleStatus
    guards: Guards
    row_level_security: Mapping[str, bool]
    reconciler: Reconciler | None
    ready: bool


def status(context: typer.Context, as_json: AsJson = False, database_url: DatabaseUrl = None) -> int:
    """Show which database this is, what is missing or odd in it, and what the role may do. Changes nothing.

    Exit code 0 where all of this could be read; "ready" in the JSON says whether it is all as it must be.
    """

    async def work(opened: Opened) -> ExitCode:
        found = await _status(opened)
        if as_json:
            output.json_result(found)
        else:
            output.results(_lines(found))
            output.result(*_verdict(found))
        return ExitCode.OK

    return on_database(context, database_url, work)


async def _status(opened: Opened) -> Status:
    async with opened.database.reading() as connection:
        server = await identity.server(connection)
        role = await identity.role(connection)
        found = await shape.inspect(connection)
        tables = await identity.row_security(connection, list(shape.REQUIRED))
        lacks = await identity.missing_rights(connection, with_services=True)
        open_policies = await identity.open_membership_policies(connection)
        ours = await _installation(connection)
        sweeps = await _reconciler(connection, opened) if ours.current else None
        guarded = await guards.status(connection)
    platform = Platform(found.missing(), found.odd(), found.optional(), open_policies)
    lacks = _lacks(lacks, role, tables, ours)
    return Status(
        database=_database(opened, server),
        installation=ours,
        platform=platform,
        guards=Guards(guarded.state, guarded.mode, guarded.notices),
        role=RoleStatus(role.name, role.is_superuser, role.bypasses_rls, lacks, not lacks),
        row_level_security={table.name: table.has_rls for table in tables},
        reconciler=sweeps,
        ready=server.is_supported and ours.current and not (platform.missing or platform.odd or lacks),
    )


def _database(opened: Opened, server: Server) -> DatabaseStatus:
    return DatabaseStatus(
        host=host_of(opened.place, server),
        database=server.database,
        source=opened.place.source,
        server_version=server.version,
        supported=server.is_supported,
        pooler=bool(opened.database.is_pooled),
    )


async def _installation(connection: Any) -> Installation:
    newest = migrations.available()[-1].version
    readable = await identity.may_read_ours(connection)
    if not readable:
        return Installation(readable is not None, False, None, None, newest, False)
    state = await migrations.state(connection)
    mode = await installation.mode(connection)
    return Installation(state.applied is not None, True, mode, state.applied, newest, state.is_current)


async def _reconciler(connection: Any, opened: Opened) -> Reconciler | None:
    state = await reconciler.state(connection)
    policy = await policy_on(connection, opened.database)
    return None if state is None else Reconciler(policy, state.last_success, state.next_run)


def _lacks(rights: list[str], role: Role, tables: list[RowSecurity], ours: Installation) -> list[str]:
    found = [right for right in rights if ours.readable or not right.startswith("mpesa_sync.")]
    found += [f"{table.name}: BYPASSRLS, for its policies hide rows" for table in tables if table.hides_rows]
    if not ours.installed and not role.may_create_schema:
        found.append("database: CREATE, for 'db init'")
    if ours.installed and not ours.readable:
        found.append("schema mpesa_sync: USAGE; SELECT, INSERT, UPDATE, DELETE on its tables; USAGE on its sequences")
    return found


def _verdict(found: Status) -> tuple[str, str]:
    if found.ready:
        return "Ready.", "green"
    fits = found.database.supported and found.role.sufficient and not (found.platform.missing or found.platform.odd)
    if fits and not found.installation.installed:
        return "Fits. Not ready yet: run 'mpesa-sync db init'.", "yellow"
    return "Not ready, see above.", "red"


def _lines(found: Status) -> Iterator[str]:
    database, role, platform = found.database, found.role, found.platform
    supported = identity.SUPPORTED
    fits = "supported" if database.supported else f"NOT supported ({supported.start} to {supported[-1]} are)"
    yield from labelled("Database", f"{database.database} on {database.host}")
    yield from labelled("", f"named by {database.source}")
    yield from labelled("Server", f"PostgreSQL {database.server_version}, {fits}")
    if database.pooler:
        yield from labelled("Pooler", f"one stands between; {LISTEN_URL} must name the database without it")
    yield from labelled("Installed", _installed(found.installation))
    if sweeps := found.reconciler:
        last = f"last sweep {moment(sweeps.last_success)}" if sweeps.last_success else "no sweep yet"
        yield from labelled("Reconciler", f"{sweeps.policy}; {last}, next {moment(sweeps.next_run)}")
    yield from labelled("Guards", guard_words(found.guards.state, found.guards.mode))
    yield from labelled("Missing", ", ".join(platform.missing) or "nothing")
    yield from labelled("Odd", "; ".join(platform.odd) or "nothing")
    there = [name for name, is_there in platform.optional.items() if is_there]
    absent = [name for name, is_there in platform.optional.items() if not is_there]
    yield from labelled("Optional", f"there: {', '.join(there) or 'nothing'}")
    yield from labelled("", f"not there: {', '.join(absent) or 'nothing'}")
    kind = [word for word, holds in (("superuser", role.superuser), ("BYPASSRLS", role.bypass_rls)) if holds]
    yield from labelled("Role", f"{role.name} ({', '.join(kind) or 'neither superuser nor BYPASSRLS'})")
    yield from labelled(
        "Rights", "sufficient" if role.sufficient else f"NOT sufficient, lacks: {'; '.join(role.lacks)}"
    )
    on = [table for table, is_on in found.row_level_security.items() if is_on]
    yield from labelled("Policies", f"row level security is on for {names(on)}" if on else "row level security is off")
    if platform.user_bars_insert_policies:
        policies = names(platform.user_bars_insert_policies)
        yield from labelled("Warning", f"policies on user_bars may let a user give itself a venue: {policies}")


def guard_words(state: str, mode: str | None, *, more: str = "; see 'mpesa-sync guard status'") -> str:
    """Return how the guards stand, as a person reads it; `more` names what says more where they do not."""
    if state == GuardState.INSTALLED:
        return f"on, mode {mode}" if mode else "on"
    if mode is None and state == GuardState.MISSING:
        return "off; 'mpesa-sync guard install' puts them on the platform's tables"
    return f"NOT as they must be: {state}{more}"


def _installed(ours: Installation) -> str:
    if not ours.installed:
        return "no; 'mpesa-sync db init' installs the schema mpesa_sync"
    if not ours.readable:
        return "yes, but this role may not read the schema mpesa_sync"
    if ours.current:
        return f"yes, {ours.mode}, schema version {ours.version}"
    return (
        f"yes, {ours.mode}, schema version {ours.version}; this program needs {ours.newest}: run 'mpesa-sync db init'"
    )
