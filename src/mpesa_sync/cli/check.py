"""`check`: which bars have drifted. One READ ONLY statement; needs no `db init` (spec 6, R2.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import AsJson, DatabaseUrl, examples
from mpesa_sync.cli.session import bar_of, on_database
from mpesa_sync.db import detection, installation, shape
from mpesa_sync.db.detection import DriftedBar, FleetSummary
from mpesa_sync.domain import availability
from mpesa_sync.domain.availability import Direction
from mpesa_sync.domain.remedies import WARNINGS
from mpesa_sync.errors import BarNotFound
from mpesa_sync.migration import fleet
from mpesa_sync.sync import stale_authority

LISTED: Final = 50
"""Drifted bars that are listed for a person; `--json` lists all of them."""

_ENCODED_AT_ONCE: Final = 1_000
_encode: Final = msgspec.json.Encoder().encode
_MEANING: Final = {
    Direction.HIDDEN: "M-Pesa is on, customers are not offered it (lost sales)",
    Direction.EXPOSED: "M-Pesa is off, customers are offered it (a dead button)",
}


class Record(msgspec.Struct, frozen=True):
    """One drifted bar, as `check --json` lists it."""

    bar_id: UUID
    slug: str | None
    direction: str
    authority: bool
    shown: bool
    warnings: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """The object of `check --json` (spec 6). Only warnings that occur are counted by name."""

    bars: int
    consistent: int
    drift: Mapping[str, int]
    warnings: Mapping[str, int]
    records: msgspec.Raw


@dataclass(slots=True)
class Findings:
    """What a check found; records become JSON, some at a time: one buffer keeps a large fleet small."""

    summary: FleetSummary
    listed: list[DriftedBar] = field(default_factory=list)
    _encoded: bytearray = field(default_factory=bytearray)
    _waiting: list[Record] = field(default_factory=list)

    def add(self, bar: DriftedBar, *, as_json: bool) -> None:
        """Keep what will be printed of a drifted bar."""
        if as_json:
            self._waiting.append(_record(bar))
            if len(self._waiting) == _ENCODED_AT_ONCE:
                self._encode()
        elif len(self.listed) < LISTED:
            self.listed.append(bar)

    def clear(self) -> None:
        """Forget what was added: the database is asked again."""
        self.listed.clear()
        self._encoded.clear()
        self._waiting.clear()

    def records(self) -> msgspec.Raw:
        """Return what was added as a JSON array."""
        self._encode()
        return msgspec.Raw(b"[" + self._encoded[:-1] + b"]")

    def _encode(self) -> None:
        if self._waiting:
            self._encoded += _encode(self._waiting)[1:-1] + b","
            self._waiting.clear()


def register(app: typer.Typer) -> None:
    """Add `check` to the app."""
    epilog = examples(
        ("mpesa-sync check", "The whole fleet; exit code 2 where a bar has drifted."),
        ("mpesa-sync check --bar mama-njeri", "One bar, by id or slug."),
        ("mpesa-sync check --json | jq '.records[].slug'", "Every drifted bar, for a program."),
    )
    app.command("check", epilog=epilog)(check)


def check(
    context: typer.Context,
    bar: Annotated[
        str | None, typer.Option("--bar", metavar="ID", help="Only this bar, by id or slug.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> int:
    """Report which bars have drifted. Changes nothing, and cannot.

    A bar has drifted where what its staff switched (mpesa_credentials.is_active) and what its customers are
    shown (bars.mpesa_enabled) disagree. Exit code 2 where there is drift, 0 where there is none; warnings
    change no exit code. Needs no 'db init' and no key; where MPESA_KMS_KEY is set, secrets of drifted bars that
    stand in both tables are opened and compared, and never shown.
    """

    async def work(opened: Opened) -> ExitCode:
        findings = await (_fleet(opened, as_json) if bar is None else _one(opened, bar, as_json))
        if as_json:
            output.json_result(_report(findings))
        else:
            _print(findings)
        return ExitCode.DRIFT if findings.summary.drifted else ExitCode.OK

    return on_database(context, database_url, work)


async def _fleet(opened: Opened, as_json: bool) -> Findings:
    findings = Findings(FleetSummary(0, 0, 0))

    def collector() -> Callable[[DriftedBar], None]:
        findings.clear()
        return partial(findings.add, as_json=as_json)

    findings.summary = await fleet.look(opened.database, collector)
    return findings


async def _one(opened: Opened, text: str, as_json: bool) -> Findings:
    async with opened.database.reading() as connection:
        await shape.require(connection)
        allow_sandbox = await installation.allows_sandbox(connection, opened.database)
        bar_id = await bar_of(connection, text)
        named = await detection.facts_of(connection, bar_id)
        if named is None:
            raise BarNotFound("There is no bar with this id or slug in this database.")
        facts = await stale_authority.judged(connection, opened.database.keys, named.facts)
    direction = availability.direction(facts)
    warnings = availability.warnings(facts, allow_sandbox=allow_sandbox)
    findings = Findings(
        FleetSummary(
            1, int(direction is Direction.HIDDEN), int(direction is Direction.EXPOSED), dict.fromkeys(warnings, 1)
        )
    )
    if direction is not None:
        authority = availability.authority(facts)
        drifted = DriftedBar(bar_id, named.slug, facts.mpesa_enabled, authority, warnings, None)
        findings.add(drifted, as_json=as_json)
    return findings


def _record(bar: DriftedBar) -> Record:
    return Record(
        bar_id=bar.bar_id,
        slug=bar.slug,
        direction=bar.direction,
        authority=bar.authority,
        shown=bar.mpesa_enabled is True,
        warnings=bar.warnings,
    )


def _report(findings: Findings) -> Report:
    summary = findings.summary
    return Report(
        bars=summary.bars,
        consistent=summary.consistent,
        drift={Direction.HIDDEN.value: summary.hidden, Direction.EXPOSED.value: summary.exposed},
        warnings={warning.value: number for warning, number in summary.warnings.items() if number},
        records=findings.records(),
    )


def _print(findings: Findings) -> None:
    summary = findings.summary
    if not summary.bars:
        output.result("There are no bars in this database: nothing to compare.", "yellow")
    elif not summary.drifted:
        output.result(f"{output.count(summary.bars, 'bar')}: in sync.", "green")
    else:
        _print_drift(summary, findings.listed)
    if any(summary.warnings.values()):
        output.result()
        output.result("Warnings, which are not drift:", "bold")
        for warning, number in summary.warnings.items():
            if number:
                output.results(output.labelled(f"  {number:>7,}  ", f"{warning}: {WARNINGS[warning].meaning}"))


def _print_drift(summary: FleetSummary, listed: list[DriftedBar]) -> None:
    output.result(
        f"{output.count(summary.bars, 'bar')}: {summary.consistent:,} in sync, {summary.drifted:,} drifted.", "bold"
    )
    for direction, number in ((Direction.HIDDEN, summary.hidden), (Direction.EXPOSED, summary.exposed)):
        output.result(f"  {number:>7,}  {direction:<7}  {_MEANING[direction]}", "red" if number else None)
    output.result()
    rows: list[Any] = [("DRIFT", "BAR", "SLUG")]
    rows += [(bar.direction, str(bar.bar_id), output.shortened(bar.slug or "-", 30)) for bar in listed]
    output.results(output.table(rows))
    if summary.drifted > len(listed):
        output.result(f"  … and {summary.drifted - len(listed):,} more; 'mpesa-sync check --json' lists all of them.")
    output.result()
    output.result("Next: 'mpesa-sync explain BAR' says why, 'mpesa-sync repair BAR' corrects it.")
