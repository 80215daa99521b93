"""The body of POST /api/mpesa-settings: its names and types, and reading them without ever repeating a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from mpesa_sync.domain.credentials import Environment, FieldError, clean_text
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.secret import Secret

MAX_TEXT: Final = 1_000
"""Longest text of a field; the longest real one, a passkey, has 64 characters."""
_TEXTS: Final = {
    "mpesa_business_shortcode": "shortcode",
    "mpesa_account_type": "account_type",
    "mpesa_till_number": "till_number",
}
_SECRETS: Final = {
    "mpesa_consumer_key": "consumer_key",
    "mpesa_consumer_secret": "consumer_secret",
    "mpesa_passkey": "passkey",
}
_KNOWN: Final = {"mpesa_enabled", "mpesa_environment", *_TEXTS, *_SECRETS}
_OURS: Final = "mpesa_"


def change_of(bar_id: UUID, body: Mapping[str, Any]) -> SettingsChange:
    """Return the change that a body asks for; what has the wrong type becomes one of its `faults`.

    Arguments:
        body: the posted names with JSON values, or the texts of a form turned into such.
    """
    faults = [
        FieldError(_shown(name), "unknown_field", "There is no such field.")
        for name in body
        if name.startswith(_OURS) and name not in _KNOWN
    ]
    texts = {argument: _text(body, name, faults) for name, argument in _TEXTS.items()}
    posted = {argument: _text(body, name, faults) for name, argument in _SECRETS.items()}
    secrets = {argument: None if text is None else Secret(text) for argument, text in posted.items()}
    return SettingsChange(
        bar_id=bar_id,
        enabled=_flag(body, faults),
        environment=_environment(body, faults),
        shortcode=texts["shortcode"],
        account_type=texts["account_type"],
        till_number=texts["till_number"],
        consumer_key=secrets["consumer_key"],
        consumer_secret=secrets["consumer_secret"],
        passkey=secrets["passkey"],
        faults=tuple(faults),
    )


def _shown(name: str) -> str:
    """Return a name that was posted as it may be repeated: short and plain, else only where it began."""
    return name if len(name) <= 40 and name.isascii() and name.isidentifier() else f"{_OURS}…"


def _flag(body: Mapping[str, Any], faults: list[FieldError]) -> bool | None:
    value = body.get("mpesa_enabled")
    if value is None or isinstance(value, bool):
        return value
    faults.append(FieldError("mpesa_enabled", "wrong_type", "Send true or false, not a text or a number."))
    return None


def _environment(body: Mapping[str, Any], faults: list[FieldError]) -> Environment | None:
    value = body.get("mpesa_environment")
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return Environment(clean_text(value))
        except ValueError:
            pass
    faults.append(FieldError("mpesa_environment", "unknown_value", "Choose sandbox or production."))
    return None


def _text(body: Mapping[str, Any], name: str, faults: list[FieldError]) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        faults.append(FieldError(name, "wrong_type", "Send a text."))
        return None
    if len(value) > MAX_TEXT:
        faults.append(FieldError(name, "too_long", f"Must have at most {MAX_TEXT} characters."))
        return None
    return value
