"""The credentials form and the last changes of a venue as values. No secret has a place in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mpesa_sync.db.history import Change
from mpesa_sync.domain.credentials import (
    SECRET_FIELDS,
    AccountType,
    Environment,
    FieldError,
    clean_text,
    has_refused_characters,
)
from mpesa_sync.refusals import StaleForm
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
    environment: str = "",
) -> FormView:
    """Return the form, filled with what is stored, or with what was typed where it is shown again (R4.4).

    Arguments:
        stored: one per environment that has a row, the one to begin with first.
        typed: the posted fields by name; secrets among them are never looked at.
        environment: the one to begin with instead, where it is one.
    """
    by_name = {option.environment: option for option in stored}
    options = tuple(by_name.get(environment, Stored(environment)) for environment in Environment)
    first = stored[0] if stored else Stored(Environment.PRODUCTION)
    first = next((option for option in options if option.environment == environment), first)
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
    """One change of a bar: when (ISO 8601 and in words), who, what, and why where a reason was given.

    `place` is from where, "" where it is not known or not for the eyes of who looks.
    """

    at_iso: str
    at: str
    who: str
    lines: tuple[str, ...]
    reason: str = ""
    place: str = ""


def change(
    at: datetime,
    actor: str,
    kind: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    reason: str = "",
    place: str = "",
) -> ChangeView:
    """Return one change in a venue's words.

    Arguments:
        at: when, with a time zone; the page shows the reader's own where it can.
        actor: as the history keeps it: `staff:NAME`, `operator:NAME`, `user:ID` or another program's name.
        kind: `settings`, `switch`, `repair` or `migration`.
        before, after: as the audit keeps them: `credentials` by environment and `mpesa_enabled`; and `saved`, the
            numbers of credentials, with the names of the `fields` that changed.
        place: as `place_of` says it.
    """
    saved = _saved(before.get("saved") or {}, after.get("saved") or {}) if kind == "settings" else ()
    return ChangeView(
        at_iso=at.isoformat(timespec="seconds"),
        at=when(at),
        who=who(actor),
        lines=saved + _changed(before, after) or (TEXTS.get(f"changes.{kind}", kind),),
        reason=text("changes.why", reason=reason) if reason else "",
        place=place,
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


def _saved(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what became of credentials: each number before and after, and which secrets are new."""
    fields = after.get("fields") or ()
    lines = [
        f"{text(f'form.{name}')}: {_kept(before.get(name))} → {_kept(after.get(name))}"
        for name in ("mpesa_account_type", "mpesa_business_shortcode", "mpesa_till_number")
        if name in fields and name in after
    ]
    new = ", ".join(text(f"form.mpesa_{name}") for name in SECRET_FIELDS if f"mpesa_{name}" in fields)
    if new:
        lines.append(text("changes.secrets", names=new))
    title = text("changes.settings")
    return (f"{title} ({_environment(after['environment'])})" if after.get("environment") else title, *lines)


def _kept(value: object) -> str:
    return TEXTS.get(f"form.{value}", str(value)) if value else text("value.none")


_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
"""What stands in the name that a browser gives itself, the most telling first: most of them name others, too."""


def change_of(found: Change, *, with_place: bool) -> ChangeView:
    """Return one change of the history in a venue's words; `with_place`: for who may know from where it was made."""
    place = place_of(found.address, found.client) if with_place else ""
    return change(found.at, found.actor, found.kind, found.before, found.after, found.reason, place)


def place_of(address: str, client: str) -> str:
    """Return from where something was asked, in short words; "" where neither address nor client is known.

    Arguments:
        client: the program as it calls itself (`User-Agent`).
    """
    first = client.split(maxsplit=1)[0].partition("/")[0][:30] if client else ""
    program = next((name for mark, name in _BROWSERS if mark in client), first)
    known = ", ".join(part for part in (address, program) if part)
    return text("changes.from", place=known) if known else ""


def stale(error: StaleForm) -> str:
    """Return who changed what a form had shown, and when, in one sentence."""
    name = who(error.changed_by or "")
    if error.changed_at is None:
        return text("stale.by", who=name)
    return text("stale.by_at", who=name, at=when(error.changed_at))


def when(at: datetime) -> str:
    """Return a time in words, with its zone; a page's script shows the reader's own."""
    return at.strftime("%d %b %Y, %H:%M %Z").strip()


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
