"""What `explain` found about one bar: the values, which are its JSON too, and the same as text for one screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from mpesa_sync.cli import output
from mpesa_sync.cli.options import names
from mpesa_sync.cli.output import flag, labelled, moment
from mpesa_sync.crypto.cipher import Verdict as SecretVerdict
from mpesa_sync.domain.availability import Reason


class HistoryState(StrEnum):
    """Whether our own history of the bar can be read."""

    KNOWN = "known"
    NOT_INSTALLED = "not_installed"
    NOT_READABLE = "not_readable"
    OTHER_VERSION = "other_version"


class BarNames(msgspec.Struct, frozen=True):
    """What the bar is called."""

    id: UUID
    slug: str | None
    name: str


class CredentialsFacts(msgspec.Struct, frozen=True):
    """One credentials row. `secrets` and `verdicts` (per secret) are None where no key was at hand."""

    environment: str
    is_active: bool | None
    secrets: str | None
    verdicts: Mapping[str, str] | None


class Facts(msgspec.Struct, frozen=True):
    """The stored facts, as stored: None is NULL, or a column that this shape lacks."""

    mpesa_enabled: bool | None
    active: bool | None
    credentials: list[CredentialsFacts]
    payment_mpesa_enabled: bool | None
    mpesa_environment: str | None
    bar_holds_secrets: bool
    allow_sandbox: bool


class Rule(msgspec.Struct, frozen=True):
    """The rule (spec 2) applied to the facts."""

    authority: bool
    shown: bool
    consistent: bool
    direction: str | None


class Verdict(msgspec.Struct, frozen=True):
    """Whether customers are offered M-Pesa; None where that hangs on secrets that were not judged."""

    mpesa_offered: bool | None
    reason: str | None
    meaning: str | None
    remedy: str | None
    other_methods: list[str]
    secrets_judged: bool


class Warned(msgspec.Struct, frozen=True):
    """A state worth knowing that is not drift."""

    code: str
    meaning: str
    remedy: str


class LastChange(msgspec.Struct, frozen=True):
    """The last change through mpesa-sync. `changed_since`: another program has changed the flag after it.

    `source_address` and `client` say from where it was asked, "" where that is not known.
    """

    at: datetime
    kind: str
    actor: str
    reason: str
    operation_id: UUID
    source_address: str
    client: str
    mpesa_enabled_before: bool | None
    mpesa_enabled_after: bool | None
    changed_since: bool


class Alert(msgspec.Struct, frozen=True):
    """An alert that nobody has resolved."""

    kind: str
    state: str
    cause: str
    what_to_do: str
    count: int
    first_seen: datetime
    last_seen: datetime


class History(msgspec.Struct, frozen=True):
    """What our own tables say of the bar, where they can be read."""

    state: HistoryState
    last_change: LastChange | None
    alerts: list[Alert]


class Explanation(msgspec.Struct, frozen=True):
    """All of it, in the order in which it is read."""

    bar: BarNames
    facts: Facts
    rule: Rule
    verdict: Verdict
    warnings: list[Warned]
    history: History


_UNKNOWN_HISTORY: Final = {
    HistoryState.NOT_INSTALLED: "not kept: mpesa-sync is not installed in this database",
    HistoryState.NOT_READABLE: "not known: this role may not read the schema mpesa_sync",
    HistoryState.OTHER_VERSION: "not known: the schema mpesa_sync is of another version ('mpesa-sync db status')",
}


def lines(found: Explanation) -> Iterator[str]:
    """Yield the explanation as lines of at most 80 columns."""
    slug = f" ({found.bar.slug})" if found.bar.slug else ""
    yield from labelled("Bar", f"{found.bar.name}{slug}")
    yield from labelled("", str(found.bar.id))
    yield from _fact_lines(found.facts)
    yield from labelled("Rule", _rule(found.rule))
    yield from _verdict_lines(found)
    for position, warning in enumerate(found.warnings):
        yield from labelled("" if position else "Warnings", f"{warning.code}: {warning.meaning} {warning.remedy}")
    yield from _history_lines(found.history)


def _fact_lines(facts: Facts) -> Iterator[str]:
    active = [f"{row.environment} {flag(row.is_active)}" for row in facts.credentials]
    yield from labelled("Facts", f"mpesa_credentials.is_active: {', '.join(active) or 'no credentials'}")
    yield from labelled("", f"bars.mpesa_enabled: {flag(facts.mpesa_enabled)}; bars.active: {flag(facts.active)}")
    if facts.credentials:
        yield from labelled("", f"secrets: {_secrets(facts)}")


def _secrets(facts: Facts) -> str:
    if any(row.verdicts is None for row in facts.credentials):
        return "not judged, for lack of a key (MPESA_KMS_KEY is not set)"
    texts = []
    for row in facts.credentials:
        odd = [f"{field} {verdict}" for field, verdict in (row.verdicts or {}).items() if verdict != SecretVerdict.GOOD]
        texts.append(f"{row.environment} {row.secrets}" + (f" ({', '.join(odd)})" if odd else ""))
    return "; ".join(texts)


def opens_nothing(facts: Facts) -> bool:
    """Return whether the keys at hand open none of the bar's secrets: most likely another key."""
    verdicts = [verdict for row in facts.credentials for verdict in (row.verdicts or {}).values()]
    return bool(verdicts) and all(verdict == SecretVerdict.UNOPENABLE for verdict in verdicts)


def _rule(rule: Rule) -> str:
    state = "consistent" if rule.consistent else f"drifted, {rule.direction}"
    return f"the switch says {_on(rule.authority)}, the customers' flag says {_on(rule.shown)}: {state}"


def _on(flag_is_true: bool) -> str:
    return "on" if flag_is_true else "off"


def _verdict_lines(found: Explanation) -> Iterator[str]:
    verdict = found.verdict
    if verdict.mpesa_offered:
        yield from labelled("Verdict", "By the rule customers are to be offered M-Pesa.")
    elif verdict.mpesa_offered is None:
        yield from labelled(
            "Verdict", "By the rule they are to be offered M-Pesa if its secrets are usable, which was not judged."
        )
    else:
        yield from labelled("Verdict", f"By the rule they are NOT to be offered M-Pesa ({verdict.reason}).")
        yield from labelled("", _meaning(found))
    yield from labelled("", f"Other methods: {names(verdict.other_methods) or 'none'}.")
    yield from labelled("Remedy", _remedy(found))
    if found.history.alerts and not verdict.mpesa_offered:
        yield from labelled("", "See the open alert below first.")


_UNSEALED: Final = {
    SecretVerdict.PLAINTEXT: "A secret is stored without encryption, so no key opens it.",
    SecretVerdict.TRUNCATED: "A stored secret is cut off, so no key opens it.",
    SecretVerdict.LEGACY_CBC: "A secret is stored in the older form, which is read no more.",
}


def _meaning(found: Explanation) -> str:
    if opens_nothing(found.facts):
        return "MPESA_KMS_KEY opens none of this bar's secrets: it is most likely another key."
    damage = _damage(found)
    return _UNSEALED[damage] if damage else found.verdict.meaning or ""


def _remedy(found: Explanation) -> str:
    if found.verdict.mpesa_offered is None:
        return f"Set MPESA_KMS_KEY and repeat 'mpesa-sync explain {found.bar.slug or found.bar.id}'."
    if _damage(found):
        return "Have the venue save its credentials again; another key would not help."
    return found.verdict.remedy or "None is needed."


def _damage(found: Explanation) -> SecretVerdict | None:
    """Return what is wrong with unreadable secrets where it is not the key."""
    if found.verdict.reason != Reason.SECRETS_UNREADABLE:
        return None
    verdicts = {verdict for row in found.facts.credentials for verdict in (row.verdicts or {}).values()}
    if SecretVerdict.UNOPENABLE in verdicts:
        return None
    return next((damage for damage in _UNSEALED if damage in verdicts), None)


def _history_lines(history: History) -> Iterator[str]:
    if history.state is not HistoryState.KNOWN:
        yield from labelled("History", _UNKNOWN_HISTORY[history.state])
        return
    change = history.last_change
    if change is None:
        yield from labelled("Changed", "never through mpesa-sync")
    else:
        yield from labelled(
            "Changed",
            f"{moment(change.at)} by {change.actor or '?'} ({change.kind}): mpesa_enabled "
            f"{flag(change.mpesa_enabled_before)} → {flag(change.mpesa_enabled_after)}"
            + (f"; {change.reason}" if change.reason else ""),
        )
        what = "run" if change.kind == "migration" else "operation"
        yield from labelled("", f"{what} {change.operation_id}")
        if came_from := _came_from(change):
            yield from labelled("", f"from {came_from}")
        if change.changed_since:
            yield from labelled("", "Since then another program has changed it.")
    if not history.alerts:
        yield from labelled("Alerts", "none open")
    for position, alert in enumerate(history.alerts):
        times = output.count(alert.count, "time")
        text = f"{alert.kind}, {alert.state}, {times}, last {moment(alert.last_seen)}: {alert.what_to_do}"
        yield from labelled("" if position else "Alerts", text)


def _came_from(change: LastChange) -> str:
    return " with ".join(text for text in (change.source_address, change.client) if text)
