"""What `explain` found about one bar, as text for one screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mpesa_sync.cli import output
from mpesa_sync.cli.options import names
from mpesa_sync.cli.output import flag, labelled, moment
from mpesa_sync.crypto.cipher import Verdict as SecretVerdict
from mpesa_sync.sync.explanation import Explanation, Facts, History, HistoryState, LastChange, Rule, meaning, remedy

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
        yield from labelled("", meaning(found))
    yield from labelled("", f"Other methods: {names(verdict.other_methods) or 'none'}.")
    yield from labelled("Remedy", _remedy(found))
    if found.history.alerts and not verdict.mpesa_offered:
        yield from labelled("", "See the open alert below first.")


def _remedy(found: Explanation) -> str:
    if found.verdict.mpesa_offered is None:
        return f"Set MPESA_KMS_KEY and repeat 'mpesa-sync explain {found.bar.slug or found.bar.id}'."
    return remedy(found) or "None is needed."


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
