"""The credentials form and the last changes of a venue as values. No secret has a place in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mpesa_sync.domain.credentials import (
    SECRET_FIELDS,
    AccountType,
    Environment,
    FieldError,
    clean_text,
    has_refused_characters,
)
from mpesa_sync.web.texts import TEXTS, text


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored for one environment, without any secret: `secrets` are the names of those that are there."""

    environment: Environment
    shortcode: str = ""
    account_type: str = AccountType.PAYBILL
    till_number: str = ""
    secrets: frozenset[str] = frozenset()
    is_active: bool = False

    @property
    def kept(self) -> tuple[str, ...]:
        """Return the names of the form's fields whose secrets are stored."""
        return tuple(f"mpesa_{name}" for name in SECRET_FIELDS if name in self.secrets)


@dataclass(frozen=True, slots=True)
class FormView:
    """The credentials form. There is no place in it for the value of a secret, stored or typed."""

    environment: str
    account_type: str
    shortcode: str
    till_number: str
    switch_on: bool
    options: tuple[Stored, ...]
    errors: tuple[FieldError, ...] = ()
    warnings: tuple[FieldError, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """Return the names of the fields whose secrets are stored for the environment that is chosen."""
        return next((option.kept for option in self.options if option.environment == self.environment), ())

    def error(self, field: str) -> str:
        """Return what is wrong with one field, "" where nothing is."""
        return " ".join(error.message for error in self.errors if error.field == field)


def form(
    stored: Sequence[Stored],
    *,
    typed: Mapping[str, str] | None = None,
    errors: Sequence[FieldError] = (),
    warnings: Sequence[FieldError] = (),
) -> FormView:
    """Return the form, filled with what is stored, or with what was typed where it is shown again (R4.4).

    Arguments:
        stored: one per environment that has a row, the one to begin with first.
        typed: the posted fields by name; secrets among them are never looked at.
    """
    by_name = {option.environment: option for option in stored}
    options = tuple(by_name.get(environment, Stored(environment)) for environment in Environment)
    first = stored[0] if stored else Stored(Environment.PRODUCTION)
    posted = typed or {}

    def value(name: str, kept: str) -> str:
        again = clean_text(posted[name])[:40] if name in posted else kept
        return "" if has_refused_characters(again) else again

    return FormView(
        environment=value("mpesa_environment", first.environment),
        account_type=value("mpesa_account_type", first.account_type),
        shortcode=value("mpesa_business_shortcode", first.shortcode),
        till_number=value("mpesa_till_number", first.till_number),
        switch_on=posted.get("mpesa_enabled") == "true",
        options=options,
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change of a bar: when (ISO 8601 and in words), who, what, and why where a reason was given."""

    at_iso: str
    at: str
    who: str
    lines: tuple[str, ...]
    reason: str = ""


def change(
    at: datetime, actor: str, kind: str, before: Mapping[str, Any], after: Mapping[str, Any], reason: str = ""
) -> ChangeView:
    """Return one change in a venue's words.

    Arguments:
        at: when, with a time zone; the page shows the reader's own where it can.
        actor: as the history keeps it: `staff:NAME`, `operator:NAME`, `user:ID` or another program's name.
        kind: `settings`, `switch`, `repair` or `migration`.
        before, after: both fields as the audit keeps them: `credentials` by environment, and `mpesa_enabled`.
    """
    saved = (text("changes.settings"),) if kind == "settings" else ()
    return ChangeView(
        at_iso=at.isoformat(timespec="seconds"),
        at=at.strftime("%d %b %Y, %H:%M %Z").strip(),
        who=who(actor),
        lines=saved + _changed(before, after) or (TEXTS.get(f"changes.{kind}", kind),),
        reason=text("changes.why", reason=reason) if reason else "",
    )


def who(actor: str) -> str:
    """Return who made a change, in words: a colleague by name, a user of the platform without the id."""
    kind, _, name = actor.partition(":")
    if kind == "staff" and name:
        return name
    if kind == "operator" and name:
        return text("who.operator", name=name)
    if kind == "user":
        return text("who.user")
    return actor or text("who.other")


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    old, new = before.get("credentials") or {}, after.get("credentials") or {}
    lines = [
        _line(text("changes.mpesa_with", environment=_environment(name)), old.get(name), new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if before.get("mpesa_enabled") != after.get("mpesa_enabled"):
        lines.append(_line(text("changes.customers"), before.get("mpesa_enabled"), after.get("mpesa_enabled")))
    return tuple(lines)


def _environment(name: str) -> str:
    return TEXTS.get(f"form.{name}", name)


def _line(what: str, before: object, after: object) -> str:
    return f"{what}: {_said(before)} → {_said(after)}"


def _said(flag: object) -> str:
    return text("value.none") if flag is None else text("value.on" if flag else "value.off")
