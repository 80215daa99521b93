"""`migrate --plan-out` and `--plan`: what would be done in a file, and doing it later (R2)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.migrating import carried_out
from mpesa_sync.db import plan_identity
from mpesa_sync.db.plan_identity import DatabaseIdentity
from mpesa_sync.errors import ConfigurationError, InvalidInput
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.plan_file import Plan, PlanHeader, PlanWriter
from mpesa_sync.migration.plan_file import read as read_file
from mpesa_sync.migration.plan_format import PlannedBar
from mpesa_sync.migration.plan_writer import WRITE_OPTION, require_new
from mpesa_sync.migration.report import InconsistentRecord, Progress, Run, RunState
from mpesa_sync.migration.service import MpesaMigrationService


def require_apart(plan: Path | None, report: Path | None) -> None:
    """Refuse one file for both.

    Raises:
        ConfigurationError: --plan-out and --report name the same.
    """
    if plan is not None and report is not None and os.path.realpath(plan) == os.path.realpath(report):
        raise ConfigurationError([f"--plan-out and --report both name {plan}: give each a file of its own"])


async def write(opened: Opened, options: RunOptions, path: Path) -> Run:
    """Look as a dry run does, and write what a run would correct to a new file.

    Raises:
        InvalidInput: the file exists, or cannot be written.
    """
    require_new(path)
    service = MpesaMigrationService(opened.database)
    identity = await _identity(opened)
    planned: list[InconsistentRecord] = []

    async def look(tell: Callable[[Progress], None], stop: asyncio.Event) -> Run:
        run, found = await service.plan(options, progress=tell, stop=stop)
        planned.extend(found)
        return run

    run = await carried_out(look, reads_only=True)
    if run.report.state is not RunState.PLANNED:
        return run
    header = PlanHeader.made(
        identity,
        now=datetime.now(UTC),
        actor=options.actor,
        reason=options.reason,
        scanned=run.report.scanned,
        accept_stale_authority=options.accept_stale_authority,
        mirror_legacy=options.mirror_legacy,
    )
    try:
        with PlanWriter(path, header) as writer:
            for one in planned:
                writer.add(
                    PlannedBar(
                        bar_id=one.bar_id,
                        authority=one.credentials_active,
                        shown=one.bar_mpesa_enabled,
                        direction=one.direction,
                    )
                )
            writer.finish()
    except OSError as exc:
        raise InvalidInput(WRITE_OPTION, f"{path} cannot be written: {exc.strerror}") from None
    run.plan_file = str(path)
    output.note(
        f"The plan is in {path}, good until {header.expires_at:%Y-%m-%d %H:%M} UTC; "
        f"'mpesa-sync migrate --plan {path}' applies it."
    )
    if identity.unknown is not None:
        output.note(identity.unknown, "yellow")
    return run


async def read(opened: Opened, path: Path, *, now: datetime) -> Plan:
    """Return a saved plan for this database, verified to its last byte.

    Raises:
        InvalidInput: it is no plan, was changed, has expired, or is another database's.
    """
    return read_file(path, identity=await _identity(opened), now=now)


async def _identity(opened: Opened) -> DatabaseIdentity:
    async with opened.database.reading() as connection:
        return await plan_identity.database_identity(connection)
