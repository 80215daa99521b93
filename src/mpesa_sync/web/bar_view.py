"""What the page of one venue for operators gets, from the explanation of it. Nothing is read here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpesa_sync.crypto.cipher import Verdict as SecretVerdict
from mpesa_sync.db.history import Change
from mpesa_sync.domain.availability import Reason
from mpesa_sync.sync import explanation
from mpesa_sync.sync.alert_words import title_of
from mpesa_sync.sync.explanation import CredentialsFacts, Explanation, HistoryState
from mpesa_sync.web import form_view
from mpesa_sync.web.alert_view import LIST
from mpesa_sync.web.form_view import ChangeView
from mpesa_sync.web.operator_texts import text
from mpesa_sync.web.status_view import Tone, tone_of
from mpesa_sync.web.views import SignedIn


@dataclass(frozen=True, slots=True)
class Fact:
    """One stored fact: its name in the database, or in words, and its value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert of this venue that nobody has resolved."""

    title: str
    what_to_do: str


@dataclass(frozen=True, slots=True)
class BarView:
    """One venue: facts, rule, verdict, remedy, warnings, open alerts, last changes; in the order in which it is read.

    `changed_since`: another program has changed the flag after the last change that is known.
    """

    person: SignedIn
    id: str
    name: str
    slug: str
    facts: tuple[Fact, ...]
    rule: str
    drift: str
    tone: Tone
    word: str
    verdict: str
    meaning: str
    remedy: str
    others: str
    warnings: tuple[str, ...]
    alerts: tuple[OpenAlert, ...]
    alerts_path: str
    changes: tuple[ChangeView, ...]
    no_changes: str
    changed_since: bool


def view(person: SignedIn, found: Explanation, changes: Sequence[Change]) -> BarView:
    """Return the page of one venue."""
    verdict, last = found.verdict, found.history.last_change
    return BarView(
        person=person,
        id=str(found.bar.id),
        name=found.bar.name or str(found.bar.id),
        slug=found.bar.slug or "",
        facts=_facts(found),
        rule=text("bar.rule.words", authority=_on(found.rule.authority), shown=_on(found.rule.shown)),
        drift=text(f"fleet.drift.{found.rule.direction}") if found.rule.direction else "",
        tone=_tone(found),
        word=text({True: "fleet.shown", False: "fleet.hidden", None: "fleet.unjudged"}[verdict.mpesa_offered]),
        verdict=_verdict(found),
        meaning="" if verdict.mpesa_offered is not False else explanation.meaning(found),
        remedy=text("bar.set_key") if verdict.mpesa_offered is None else explanation.remedy(found),
        others=", ".join(text(f"bar.method.{method}") for method in verdict.other_methods) or text("bar.method.none"),
        warnings=tuple(f"{warning.meaning} {warning.remedy}" for warning in found.warnings),
        alerts=tuple(OpenAlert(title_of(alert.kind), alert.what_to_do) for alert in found.history.alerts),
        alerts_path=f"{LIST}?state=all&bar={found.bar.id}",
        changes=tuple(form_view.change_of(change, with_place=True) for change in changes),
        no_changes=text(f"bar.history.{found.history.state}"),
        changed_since=last is not None and last.changed_since and found.history.state is HistoryState.KNOWN,
    )


def _tone(found: Explanation) -> Tone:
    if found.verdict.mpesa_offered is None:
        return Tone.UNKNOWN
    return tone_of(Reason(found.verdict.reason) if found.verdict.reason else None)


def _verdict(found: Explanation) -> str:
    verdict = found.verdict
    if verdict.mpesa_offered is None:
        return text("bar.verdict.unjudged")
    return text("bar.verdict.shown") if verdict.mpesa_offered else text("bar.verdict.hidden", reason=verdict.reason)


def _facts(found: Explanation) -> tuple[Fact, ...]:
    facts = found.facts
    listed = [Fact("bars.mpesa_enabled", _flag(facts.mpesa_enabled)), Fact("bars.active", _flag(facts.active))]
    for row in facts.credentials:
        listed.append(Fact(f"mpesa_credentials.is_active ({row.environment})", _flag(row.is_active)))
        listed.append(Fact(text("bar.secrets", environment=row.environment), _secrets(row)))
    if not facts.credentials:
        listed.append(Fact("mpesa_credentials", text("bar.no_rows")))
    if facts.payment_mpesa_enabled is not None:
        listed.append(Fact("bars.payment_mpesa_enabled", _flag(facts.payment_mpesa_enabled)))
    if facts.mpesa_environment is not None:
        listed.append(Fact("bars.mpesa_environment", facts.mpesa_environment))
    if facts.bar_holds_secrets:
        listed.append(Fact(text("bar.older_secrets"), text("bar.yes")))
    return (*listed, Fact(text("bar.sandbox"), text("bar.yes" if facts.allow_sandbox else "bar.no")))


def _secrets(row: CredentialsFacts) -> str:
    if row.verdicts is None or row.secrets is None:
        return text("bar.secrets.unjudged")
    odd = [f"{name}: {verdict}" for name, verdict in row.verdicts.items() if verdict != SecretVerdict.GOOD]
    return f"{row.secrets} ({', '.join(odd)})" if odd else row.secrets


def _flag(value: bool | None) -> str:
    return text("bar.null") if value is None else str(value).lower()


def _on(is_on: bool) -> str:
    return text("bar.on" if is_on else "bar.off")
