"""What a posted settings form means for what is stored: which environment, what to store, what is wrong. Pure (R4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from mpesa_sync.domain import environments
from mpesa_sync.domain.bars import CredentialsRow
from mpesa_sync.domain.credentials import (
    SECRET_FIELDS,
    AccountType,
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
        InvalidSettings: names every wrong field; nothing is to be written (R4.4).
        AmbiguousEnvironment: both environments have credentials and nothing says which is meant.
    """
    given = (_given(change.consumer_key), _given(change.consumer_secret), _given(change.passkey))
    environment = _environment(change, stored, given, allow_sandbox=allow_sandbox, last_active=last_active)
    row = next((row for row in stored if row.environment is environment), None)
    shortcode, account_type, till_number = _effective(change, row)
    fields = () if environment is None else _changed(given, row, shortcode, account_type, till_number)
    if environment is None or not (fields or change.enabled is True):
        if change.faults:
            raise InvalidSettings(WRONG_FORM, change.faults, code="invalid_format")
        return Save(environment)
    has = row.has if row else (False, False, False)
    checked = check_credentials(
        CredentialsInput(
            environment=environment,
            shortcode=shortcode,
            account_type=account_type,
            till_number=till_number,
            # A secret that is neither given nor stored is missing: an empty one is reported as that.
            **{
                name: secret if secret or stored_already else Secret("")
                for name, secret, stored_already in zip(SECRET_FIELDS, given, has, strict=True)
            },
        )
    )
    errors = checked.errors
    if not fields:
        # Only switched on: what was stored before is not judged by the rules of the form, only missed.
        errors = tuple(error for error in errors if error.code == "missing")
    _refuse(change, errors)
    warnings = checked.warnings if fields else ()
    return Save(environment, fields, shortcode, account_type, till_number, given, warnings)


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
) -> Environment | None:
    if change.environment is not None:
        return change.environment
    brings_credentials = any(given) or bool(clean_text(change.shortcode or ""))
    if stored:
        rows = [CredentialsRow(row.environment, row.is_active) for row in stored]
        try:
            return environments.choose(rows, last_active=last_active)
        except AmbiguousEnvironment:
            if any(given) or change.enabled is True:
                raise
            return None  # switching off needs no credentials, so it need not say whose they are
    if not brings_credentials and change.enabled is not True:
        return None
    if allow_sandbox:
        return Environment.SANDBOX
    missing = FieldError("mpesa_environment", "missing", "Choose production: the sandbox may not serve customers here.")
    _refuse(change, (missing,))
    return None


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


def _refuse(change: SettingsChange, errors: Sequence[FieldError]) -> None:
    """Raise what is wrong, each field once: a field of a wrong type is not missing as well."""
    faulty = {fault.field for fault in change.faults}
    found = (*change.faults, *(error for error in errors if error.field not in faulty))
    if not found:
        return
    if change.enabled is True and any(error.code == "missing" for error in found):
        raise InvalidSettings(ALL_REQUIRED, found, code="credentials_required")
    raise InvalidSettings(WRONG_FORM, found, code="invalid_format")
