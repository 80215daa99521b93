"""Explains one bar: facts, rule, verdict, remedy, last change, open alerts. Reads only; needs no `db init`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from mpesa_sync.crypto.cipher import examine
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.crypto.usability import worst_of
from mpesa_sync.db import alerts, credentials, detection, history, identity, installation, migrations
from mpesa_sync.db.credentials import StoredSecrets
from mpesa_sync.db.history import Change
from mpesa_sync.db.pool import Database
from mpesa_sync.domain import availability
from mpesa_sync.domain.availability import Method, Reason
from mpesa_sync.domain.bars import BarFacts, CredentialsRow
from mpesa_sync.domain.credentials import SECRET_FIELDS, Environment
from mpesa_sync.domain.remedies import ALSO_DRIFTED, REASONS, WARNINGS, for_bar
from mpesa_sync.errors import BarNotFound
from mpesa_sync.sync import stale_authority
from mpesa_sync.sync.explanation import (
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
)

_NOTHING_STORED: Final[StoredSecrets] = (None, None, None)
_DRIFT_REASONS: Final = frozenset({Reason.DRIFT_HIDDEN, Reason.DRIFT_EXPOSED})
_PLAIN_NAME: Final = re.compile(r"\w[\w.-]*")


async def explain(connection: Any, database: Database, bar_id: UUID, *, called: str = "") -> Explanation:
    """Return all that there is to say of one bar, its secrets judged where `database` has a key.

    Arguments:
        connection: in a transaction of `database` that reads.
        called: the slug or id that a remedy names, "" for the bar's slug; where that cannot be copied into a shell, it
            names the id.
    Raises:
        BarNotFound: there is no such bar.
        DatabaseFault, SchemaError: it cannot be read.
    """
    keys = database.keys
    named = await detection.facts_of(connection, bar_id)
    if named is None:
        raise BarNotFound("There is no bar with this id or slug in this database.")
    allow_sandbox = await installation.allows_sandbox(connection, database)
    stored = await credentials.stored_secrets_of(connection, bar_id) if keys else {}
    past = await _history(connection, bar_id, named.facts)
    facts = _judged(await stale_authority.judged(connection, keys, named.facts), stored, keys)
    called = called or named.slug or ""
    name = called if _PLAIN_NAME.fullmatch(called) else str(bar_id)
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
