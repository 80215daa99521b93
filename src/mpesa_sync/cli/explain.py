"""`explain`: why one bar offers M-Pesa or not: facts, rule, verdict, remedy, last change, open alerts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.explanation import (
    Alert,
    BarNames,
    CredentialsFacts,
    Explanation,
    Facts,
    History,
    HistoryState,
    LastChange,
    Rule,
    Verdict,
    Warned,
    lines,
)
from mpesa_sync.cli.options import AsJson, Bar, DatabaseUrl, examples
from mpesa_sync.cli.session import bar_of, on_database
from mpesa_sync.crypto.cipher import examine
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.crypto.usability import worst_of
from mpesa_sync.db import alerts, credentials, detection, history, identity, installation, migrations, shape
from mpesa_sync.db.credentials import StoredSecrets
from mpesa_sync.db.history import Change
from mpesa_sync.domain import availability
from mpesa_sync.domain.availability import Method, Reason
from mpesa_sync.domain.bars import BarFacts, CredentialsRow
from mpesa_sync.domain.credentials import SECRET_FIELDS, Environment
from mpesa_sync.domain.remedies import ALSO_DRIFTED, REASONS, WARNINGS, for_bar
from mpesa_sync.errors import BarNotFound
from mpesa_sync.sync import stale_authority

_NOTHING_STORED: Final[StoredSecrets] = (None, None, None)
_DRIFT_REASONS: Final = frozenset({Reason.DRIFT_HIDDEN, Reason.DRIFT_EXPOSED})
_PLAIN_NAME: Final = re.compile(r"\w[\w.-]*")


def register(app: typer.Typer) -> None:
    """Add `explain` to the app."""
    epilog = examples(
        ("mpesa-sync explain mama-njeri", "One bar, by slug."),
        ("mpesa-sync explain 7d9c2f64-0f0b-4d1e-9f0e-5a9b3c1d2e4f --json", "By id, for a program."),
    )
    app.command("explain", epilog=epilog)(explain)


def explain(context: typer.Context, bar: Bar, as_json: AsJson = False, database_url: DatabaseUrl = None) -> int:
    """Say why one bar offers M-Pesa or not, and what to do.

    Reads only; needs no 'db init'. Stored secrets are judged where MPESA_KMS_KEY is set, and never shown.
    """

    async def work(opened: Opened) -> ExitCode:
        explanation = await _explained(opened, bar)
        if as_json:
            output.json_result(explanation)
        else:
            output.results(lines(explanation))
        return ExitCode.OK

    return on_database(context, database_url, work)


async def _explained(opened: Opened, text: str) -> Explanation:
    keys = opened.database.keys
    async with opened.database.reading() as connection:
        await shape.require(connection)
        bar_id = await bar_of(connection, text)
        named = await detection.facts_of(connection, bar_id)
        if named is None:
            raise BarNotFound("There is no bar with this id or slug in this database.")
        allow_sandbox = await installation.allows_sandbox(connection, opened.database)
        stored = await credentials.stored_secrets_of(connection, bar_id) if keys else {}
        past = await _history(connection, bar_id, named.facts)
        facts = await stale_authority.judged(connection, keys, named.facts)
    facts = _judged(facts, stored, keys)
    # What a remedy names can be copied into a shell: where the slug cannot, it is the id.
    name = text if _PLAIN_NAME.fullmatch(text) else str(bar_id)
    return Explanation(
        bar=BarNames(bar_id, named.slug, named.name),
        facts=_facts(facts, stored, keys, allow_sandbox),
        rule=_rule(facts),
        verdict=_verdict(facts, keys, allow_sandbox, name),
        warnings=[
            Warned(warning, WARNINGS[warning].meaning, for_bar(WARNINGS[warning].remedy, name))
            for warning in availability.warnings(facts, allow_sandbox=allow_sandbox)
        ],
        history=past,
    )


def _judged(facts: BarFacts, stored: Mapping[Environment, StoredSecrets], keys: KeyRing) -> BarFacts:
    """Return the facts with what the stored secrets are worth, where there is a key to tell."""
    if not keys:
        return facts

    def judged(row: CredentialsRow) -> CredentialsRow:
        return replace(row, secrets=worst_of(keys, stored.get(row.environment, _NOTHING_STORED)))

    return replace(facts, rows=tuple(judged(row) for row in facts.rows))


def _facts(facts: BarFacts, stored: Mapping[Environment, StoredSecrets], keys: KeyRing, allow_sandbox: bool) -> Facts:
    def verdicts(row: CredentialsRow) -> dict[str, str] | None:
        if not keys:
            return None
        secrets = zip(SECRET_FIELDS, stored.get(row.environment, _NOTHING_STORED), strict=True)
        return {field: examine(keys, secret).verdict.value if secret else "missing" for field, secret in secrets}

    return Facts(
        mpesa_enabled=facts.mpesa_enabled,
        active=facts.active,
        credentials=[
            CredentialsFacts(row.environment, row.is_active, row.secrets.value if keys else None, verdicts(row))
            for row in facts.rows
        ],
        payment_mpesa_enabled=facts.legacy_mpesa_enabled,
        mpesa_environment=facts.named_environment,
        bar_holds_secrets=facts.bar_holds_secrets,
        allow_sandbox=allow_sandbox,
    )


def _rule(facts: BarFacts) -> Rule:
    direction = availability.direction(facts)
    return Rule(
        authority=availability.authority(facts),
        shown=availability.shown(facts),
        consistent=direction is None,
        direction=direction,
    )


def _verdict(facts: BarFacts, keys: KeyRing, allow_sandbox: bool, name: str) -> Verdict:
    reason = availability.hidden_reason(facts, allow_sandbox=allow_sandbox)
    others = [
        method.value for method in availability.offer(facts, allow_sandbox=allow_sandbox) if method is not Method.MPESA
    ]
    if reason is not None:
        advice = REASONS[reason]
        drifted = availability.direction(facts) is not None and reason not in _DRIFT_REASONS
        remedy = f"{advice.remedy} {ALSO_DRIFTED}" if drifted else advice.remedy
        return Verdict(False, reason, advice.meaning, for_bar(remedy, name), others, bool(keys))
    return Verdict(True if keys else None, None, None, None, others, bool(keys))


async def _history(connection: Any, bar_id: UUID, facts: BarFacts) -> History:
    readable = await identity.may_read_ours(connection)
    if not readable:
        return History(HistoryState.NOT_INSTALLED if readable is None else HistoryState.NOT_READABLE, None, [])
    if not (await migrations.state(connection)).is_current:
        return History(HistoryState.OTHER_VERSION, None, [])
    change = await history.last_change(connection, bar_id)
    last = None if change is None else _last_change(change, facts)
    open_alerts = [
        Alert(
            kind=alert.kind,
            state=alert.state,
            cause=alert.cause,
            what_to_do=alert.what_to_do,
            count=alert.count,
            first_seen=alert.first_seen,
            last_seen=alert.last_seen,
        )
        for alert in await alerts.open_of_bar(connection, bar_id)
    ]
    return History(HistoryState.KNOWN, last, open_alerts)


def _last_change(change: Change, facts: BarFacts) -> LastChange:
    return LastChange(
        at=change.at,
        kind=change.kind,
        actor=change.actor,
        reason=change.reason,
        operation_id=change.operation_id,
        source_address=change.address,
        client=change.client,
        mpesa_enabled_before=change.mpesa_enabled_before,
        mpesa_enabled_after=change.mpesa_enabled_after,
        changed_since=change.mpesa_enabled_after is not facts.mpesa_enabled,
    )
