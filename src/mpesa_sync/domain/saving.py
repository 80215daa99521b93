"""What a posted settings form means for what is stored: which environment, what to store, what is wrong. Pure (R4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from mpesa_sync.domain import environments
from mpesa_sync.domain.bars import CredentialsRow
from mpesa_sync.domain.credentials import (
    SECRET_FIELDS,
    AccountType,
    Checked,
    CredentialsInput,
    Environment,
    FieldError,
    check_credentials,
    clean_text,
    means_unchanged,
)
from mpesa_sync.errors import AmbiguousEnvironment, InvalidSettings
from mpesa_sync.secret import Secret

ALL_REQUIRED: Final = "All M-Pesa credentials are required when M-Pesa is enabled"
WRONG_FORM: Final = "Invalid credentials format"
"""The existing API's words, which its front end may look for (existing-platform.md)."""
_PRODUCTION_ONLY: Final = FieldError(
    "mpesa_environment", "missing", "Choose production: the sandbox may not serve customers here."
)
_WHICH: Final = FieldError(
    "mpesa_environment", "missing", "There are credentials for both: choose sandbox or production."
)


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What somebody posted; None is "not said". Secrets as posted: blank and the mask mean "unchanged".

    `faults` are fields of a wrong type, found while reading; they are reported with whatever else is wrong.
    """

    bar_id: UUID
    enabled: bool | None = None
    environment: Environment | None = None
    shortcode: str | None = None
    account_type: str | None = None
    till_number: str | None = None
    consumer_key: Secret | None = None
    consumer_secret: Secret | None = None
    passkey: Secret | None = None
    faults: tuple[FieldError, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredCredentials:
    """One credentials row without its secrets: `has` says which of the three are stored, in order."""

    environment: Environment
    is_active: bool | None
    shortcode: str
    has: tuple[bool, bool, bool]
    account_type: str = AccountType.PAYBILL
    till_number: str = ""

    @property
    def has_all(self) -> bool:
        """Return whether all three secrets are stored, whatever they are worth."""
        return all(self.has)


@dataclass(frozen=True, slots=True)
class Save:
    """What is to be written. `environment` None, or no `fields`: no credentials are stored.

    `fields` are the names of what changes, `secrets` the new ones (None keeps what is stored), clean.
    """

    environment: Environment | None
    fields: tuple[str, ...] = ()
    shortcode: str = ""
    account_type: str = AccountType.PAYBILL
    till_number: str = ""
    secrets: tuple[Secret | None, Secret | None, Secret | None] = (None, None, None)
    warnings: tuple[FieldError, ...] = ()


def decide(
    change: SettingsChange,
    stored: Sequence[StoredCredentials],
    *,
    allow_sandbox: bool,
    last_active: Environment | None = None,
) -> Save:
    """Return what a change stores, given what is stored now.

    Arguments:
        allow_sandbox: whether sandbox credentials may serve customers here.
        last_active: the environment that was last switched on, as our journal knows it.
    Raises:
        InvalidSettings: names every wrong field, also an environment that has to be named; nothing is to be
            written (R4.4).
    """
    given = (_given(change.consumer_key), _given(change.consumer_secret), _given(change.passkey))
    faults = (*change.faults, *_unknown_type(change))
    environment: Environment | None = None
    if not _is_faulty("mpesa_environment", faults):
        environment, unnamed = _environment(change, stored, given, allow_sandbox=allow_sandbox, last_active=last_active)
        faults = (*faults, unnamed) if unnamed else faults
    row = next((row for row in stored if row.environment is environment), None)
    if _is_faulty("mpesa_environment", faults):
        row = _any_of(stored)  # whatever it is for, the rest of it is judged, too
    shortcode, account_type, till_number = _effective(change, row)
    fields = _changed(given, row, shortcode, account_type, till_number)
    is_idle = environment is None and not _is_faulty("mpesa_environment", faults)
    if is_idle or not (fields or change.enabled is True):
        _refuse(change, faults, ())
        return Save(environment)
    checked = _checked(environment, shortcode, account_type, till_number, given, row)
    # Only switched on: what was stored before is not judged by the rules of the form, only missed.
    errors = checked.errors if fields else tuple(error for error in checked.errors if error.code == "missing")
    _refuse(change, faults, errors)
    warnings = checked.warnings if fields else ()
    return Save(environment, fields, shortcode, account_type, till_number, given, warnings)


def _checked(
    environment: Environment | None,
    shortcode: str,
    account_type: str,
    till_number: str,
    given: Sequence[Secret | None],
    row: StoredCredentials | None,
) -> Checked:
    """Judge the form as it would be stored. A secret that is neither given nor stored is missing: an empty one."""
    has = row.has if row else (False, False, False)
    secrets = {
        name: secret if secret or is_stored else Secret("")
        for name, secret, is_stored in zip(SECRET_FIELDS, given, has, strict=True)
    }
    known = environment or Environment.SANDBOX  # its own fault is reported; the sandbox forbids no public value
    return check_credentials(
        CredentialsInput(
            environment=known, shortcode=shortcode, account_type=account_type, till_number=till_number, **secrets
        )
    )


def _unknown_type(change: SettingsChange) -> tuple[FieldError, ...]:
    if change.account_type is None or clean_text(change.account_type) in tuple(AccountType):
        return ()
    return (FieldError("mpesa_account_type", "unknown_value", "Choose paybill or till."),)


def _is_faulty(field: str, faults: Sequence[FieldError]) -> bool:
    return any(fault.field == field for fault in faults)


def _any_of(stored: Sequence[StoredCredentials]) -> StoredCredentials | None:
    """Return a row that has whatever any row has: of an environment that is not known, nothing is missed wrongly."""
    if not stored:
        return None
    has = [any(kept) for kept in zip(*(row.has for row in stored), strict=True)]
    return replace(stored[0], has=(has[0], has[1], has[2]))


def _given(secret: Secret | None) -> Secret | None:
    if secret is None or means_unchanged(secret):
        return None
    return Secret(clean_text(secret.reveal()))


def _environment(
    change: SettingsChange,
    stored: Sequence[StoredCredentials],
    given: Sequence[Secret | None],
    *,
    allow_sandbox: bool,
    last_active: Environment | None,
) -> tuple[Environment | None, FieldError | None]:
    """Return whose credentials these are; None where nothing needs to know it, or what is wrong where something does.

    Switching off needs no credentials, so it need not say whose they are.
    """
    if change.environment is not None:
        return change.environment, None
    numbers = (change.shortcode, change.account_type, change.till_number)
    brings = any(given) or (change.enabled is not False and any(clean_text(number or "") for number in numbers))
    if not stored:
        if not brings and change.enabled is not True:
            return None, None
        return (Environment.SANDBOX, None) if allow_sandbox else (None, _PRODUCTION_ONLY)
    rows = [CredentialsRow(row.environment, row.is_active) for row in stored]
    try:
        return environments.choose(rows, last_active=last_active), None
    except AmbiguousEnvironment:
        return None, _WHICH if brings or change.enabled is True else None


def _effective(change: SettingsChange, row: StoredCredentials | None) -> tuple[str, str, str]:
    """Return shortcode, account type and till number as they will be: what is posted, else what is stored."""
    shortcode = clean_text(change.shortcode) if change.shortcode is not None else (row.shortcode if row else "")
    account_type = change.account_type or (row.account_type if row else AccountType.PAYBILL)
    till_number = clean_text(change.till_number) if change.till_number is not None else (row.till_number if row else "")
    return shortcode, clean_text(account_type), till_number


def _changed(
    given: Sequence[Secret | None], row: StoredCredentials | None, shortcode: str, account_type: str, till_number: str
) -> tuple[str, ...]:
    """Return the names of the fields that differ from what is stored; a blank shortcode alone changes nothing."""
    before = row or StoredCredentials(Environment.SANDBOX, None, "", (False, False, False))
    differ = {
        "mpesa_business_shortcode": shortcode not in ("", before.shortcode),
        "mpesa_account_type": account_type != before.account_type,
        "mpesa_till_number": till_number != before.till_number and account_type == AccountType.TILL,
        **{f"mpesa_{name}": secret is not None for name, secret in zip(SECRET_FIELDS, given, strict=True)},
    }
    return tuple(name for name, differs in differ.items() if differs)


def _refuse(change: SettingsChange, faults: Sequence[FieldError], errors: Sequence[FieldError]) -> None:
    """Raise what is wrong, each field once: a field of a wrong type is not missing as well."""
    found = (*faults, *(error for error in errors if not _is_faulty(error.field, faults)))
    if not found:
        return
    if change.enabled is True and any(error.code == "missing" for error in found):
        raise InvalidSettings(ALL_REQUIRED, found, code="credentials_required")
    raise InvalidSettings(WRONG_FORM, found, code="invalid_format")
