"""What a stale form shows as values: what was asked for beside what is stored now. No secret has a place in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mpesa_sync.domain.credentials import SECRET_FIELDS, AccountType, Environment, means_unchanged
from mpesa_sync.refusals import StaleForm
from mpesa_sync.secret import Secret
from mpesa_sync.web import form_view
from mpesa_sync.web.form_view import Stored
from mpesa_sync.web.texts import TEXTS, text

_ON: Final = "true"
_TIME: Final = "\0"


@dataclass(frozen=True, slots=True)
class Compared:
    """One value: what was asked for, and what is stored now."""

    label: str
    typed: str
    stored: str
    differs: bool


@dataclass(frozen=True, slots=True)
class ConflictView:
    """A form that met another change.

    `said` is the sentence before and after the time, `at` "" where no time is known. `hidden` are the fields to be
    sent again, `again` the names of secrets that were typed and are not sent back. `action` follows the page's path.
    """

    said: tuple[str, str]
    at_iso: str
    at: str
    rows: tuple[Compared, ...]
    hidden: tuple[tuple[str, str], ...]
    again: tuple[str, ...]
    action: str
    button: str

    @property
    def differs(self) -> bool:
        """Return whether anything that was asked for is not as it is stored already."""
        return any(row.differs for row in self.rows)


def of_form(error: StaleForm, typed: Mapping[str, str], stored: Sequence[Stored]) -> ConflictView:
    """Return what a stale credentials form shows.

    Arguments:
        typed: the posted fields by name; of secrets only whether something new was typed.
        stored: one per environment that has a row, the one that is meant first.
    """
    form = form_view.form(stored, typed=typed)
    unknown = Stored(Environment.PRODUCTION)  # what was typed is no environment: nothing is stored for it
    now = next((option for option in form.options if option.environment == form.environment), unknown)
    again = tuple(name for name in _SECRETS if not means_unchanged(Secret(typed.get(name, ""))))
    numbers = [("mpesa_business_shortcode", form.shortcode, now.shortcode)]
    if AccountType.TILL in (form.account_type, now.account_type):
        numbers.append(("mpesa_till_number", form.till_number, now.till_number))
    rows = [
        _row("mpesa_environment", _word(form.environment), _word(stored[0].environment) if stored else ""),
        _row("mpesa_account_type", _word(form.account_type), _word(now.account_type) if now.kept else ""),
        *(_row(name, mine, theirs) for name, mine, theirs in numbers),
        *(_secret(name, is_new=name in again, is_stored=name in now.kept) for name in _SECRETS),
    ]
    is_on = any(option.is_active for option in stored)
    asks_on = typed.get("mpesa_enabled") == _ON
    switched = _flag(is_on)
    rows.append(
        Compared(
            text("stale.switch"),
            _flag(True) if asks_on else text("stale.as_it_is"),
            switched,
            differs=asks_on and not is_on,
        )
    )
    hidden = [
        ("mpesa_environment", form.environment),
        ("mpesa_account_type", form.account_type),
        ("mpesa_business_shortcode", form.shortcode),
        ("mpesa_till_number", form.till_number),
    ]
    if asks_on:
        hidden.append(("mpesa_enabled", _ON))
    return _view(error, rows, hidden, again=again, action="", button=text("stale.save"))


def of_switch(error: StaleForm, typed: Mapping[str, str], stored: Sequence[Stored]) -> ConflictView:
    """Return what a stale switch shows.

    Arguments:
        typed: `is_active` and, where it was chosen, `environment`.
        stored: as for `of_form`.
    """
    wanted = typed.get("is_active") == _ON
    active = {option.environment.value for option in stored if option.is_active}
    rows = [Compared(text("stale.switch"), _flag(wanted), _flag(bool(active)), differs=wanted is not bool(active))]
    hidden = [("is_active", _ON if wanted else "false")]
    environment = typed.get("environment", "")
    if wanted and f"form.{environment}" in TEXTS:
        theirs = ", ".join(_word(name) for name in sorted(active))
        label = text("form.mpesa_environment")
        rows.append(_compared(label, _word(environment), theirs, differs=active != {environment}))
        hidden.append(("environment", environment))
    button = text("stale.on" if wanted else "stale.off")
    return _view(error, rows, hidden, again=(), action="/switch", button=button)


_SECRETS: Final = tuple(f"mpesa_{name}" for name in SECRET_FIELDS)


def _view(
    error: StaleForm,
    rows: Sequence[Compared],
    hidden: Sequence[tuple[str, str]],
    *,
    again: tuple[str, ...],
    action: str,
    button: str,
) -> ConflictView:
    name, at = form_view.who(error.changed_by or ""), error.changed_at
    sentence = text("stale.by", who=name) if at is None else text("stale.by_at", who=name, at=_TIME)
    before, _, after = sentence.partition(_TIME)
    return ConflictView(
        said=(before, after),
        at_iso=at.isoformat(timespec="seconds") if at else "",
        at=form_view.when(at) if at else "",
        rows=tuple(rows),
        hidden=tuple(hidden),
        again=again,
        action=action,
        button=button,
    )


def _row(field: str, typed: str, stored: str) -> Compared:
    return _compared(text(f"form.{field}"), typed, stored, differs=typed != stored)


def _compared(label: str, typed: str, stored: str, *, differs: bool) -> Compared:
    return Compared(label, typed or text("stale.none"), stored or text("stale.none"), differs)


def _secret(field: str, *, is_new: bool, is_stored: bool) -> Compared:
    return Compared(
        text(f"form.{field}"),
        text("stale.secret.typed" if is_new else "stale.secret.kept"),
        text("stale.secret.stored" if is_stored else "stale.secret.none"),
        differs=is_new,
    )


def _word(value: str) -> str:
    return TEXTS.get(f"form.{value}", value)


def _flag(on: bool) -> str:
    return text("value.on" if on else "value.off")
