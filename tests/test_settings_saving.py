"""`domain.saving`: what a posted form means for what is stored, one row of the table a case."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

import pytest

from mpesa_sync.domain.credentials import SANDBOX_PASSKEY, Environment, FieldError
from mpesa_sync.domain.saving import ALL_REQUIRED, WRONG_FORM, SettingsChange, StoredCredentials, decide
from mpesa_sync.errors import InvalidSettings
from mpesa_sync.secret import MASK, Secret

KEY: Final = Secret("a-consumer-key-of-somebody")
SECRET: Final = Secret("a-consumer-secret-of-somebody")
PASSKEY: Final = Secret("a-passkey-of-somebody")
THREE: Final[dict[str, Any]] = {"consumer_key": KEY, "consumer_secret": SECRET, "passkey": PASSKEY}
MASKED: Final[dict[str, Any]] = dict.fromkeys(THREE, Secret(MASK))
BLANK: Final[dict[str, Any]] = dict.fromkeys(THREE, Secret("  "))


def change(**given: Any) -> SettingsChange:
    """A change of some bar."""
    return SettingsChange(bar_id=uuid4(), **given)


def row(environment: str = "production", **stored: Any) -> StoredCredentials:
    """A stored row with all three secrets."""
    values: dict[str, Any] = {"is_active": False, "shortcode": "600123", "has": (True, True, True), **stored}
    return StoredCredentials(environment=Environment(environment), **values)


def wrong(given: SettingsChange, *rows: StoredCredentials, allow_sandbox: bool = True) -> tuple[str, dict[str, str]]:
    """Return the error's text and the code of each wrong field."""
    with pytest.raises(InvalidSettings) as refused:
        decide(given, rows, allow_sandbox=allow_sandbox)
    errors: tuple[FieldError, ...] = refused.value.errors
    assert len({error.field for error in errors}) == len(errors), "each field once"
    return refused.value.message, {error.field: error.code for error in errors}


def test_a_first_save_stores_everything_for_the_sandbox() -> None:
    """existing-platform.md: the environment left out means sandbox for a first save."""
    save = decide(change(shortcode=" 600123\n", **THREE), (), allow_sandbox=True)
    assert save.environment is Environment.SANDBOX
    assert (save.shortcode, save.account_type) == ("600123", "paybill")
    assert save.fields == (
        "mpesa_business_shortcode",
        "mpesa_consumer_key",
        "mpesa_consumer_secret",
        "mpesa_passkey",
    )


def test_a_first_save_names_the_environment_where_sandbox_is_not_allowed() -> None:
    """existing-platform.md: 400 naming `mpesa_environment`."""
    text, fields = wrong(change(shortcode="600123", **THREE), allow_sandbox=False)
    assert (text, fields) == (WRONG_FORM, {"mpesa_environment": "missing"})


@pytest.mark.parametrize("unchanged", [{}, MASKED, BLANK], ids=["left out", "mask", "blank"])
def test_what_is_unchanged_is_not_stored_again(unchanged: dict[str, Any]) -> None:
    """R4: the mask or a blank means "unchanged" where a secret is stored."""
    save = decide(
        change(environment=Environment.PRODUCTION, shortcode="600123", **unchanged), [row()], allow_sandbox=True
    )
    assert (save.fields, save.secrets) == ((), (None, None, None))


@pytest.mark.parametrize("unchanged", [{}, MASKED, BLANK], ids=["left out", "mask", "blank"])
def test_unchanged_is_missing_where_nothing_is_stored(unchanged: dict[str, Any]) -> None:
    """R4: either is "missing" where none is stored; every one is named."""
    text, fields = wrong(change(enabled=True, environment=Environment.PRODUCTION, shortcode="600123", **unchanged))
    assert text == ALL_REQUIRED
    assert fields == dict.fromkeys(("mpesa_consumer_key", "mpesa_consumer_secret", "mpesa_passkey"), "missing")


def test_switching_off_needs_nothing() -> None:
    """R4: switching off needs no secrets, no number and no environment, whatever is stored."""
    for rows in ([], [row()], [row("sandbox"), row()], [row(has=(False, True, True))]):
        for secrets in ({}, MASKED, BLANK):
            assert decide(change(enabled=False, shortcode="", **secrets), rows, allow_sandbox=False).fields == ()


def test_one_new_secret_is_stored_alone() -> None:
    """R4: what is not given keeps what is stored."""
    save = decide(change(passkey=PASSKEY), [row()], allow_sandbox=True)
    assert save.fields == ("mpesa_passkey",)
    assert save.secrets == (None, None, PASSKEY)
    assert save.shortcode == "600123"


def test_a_shortcode_that_was_emptied_is_missing() -> None:
    """R4.4: not the old one in silence."""
    _, fields = wrong(change(shortcode="  ", passkey=PASSKEY), row())
    assert fields == {"mpesa_business_shortcode": "missing"}


def test_every_wrong_field_is_named_at_once() -> None:
    """R4.4, P7."""
    given = change(
        environment=Environment.PRODUCTION,
        shortcode="12",
        account_type="till",
        till_number="x",
        consumer_key=Secret("short"),
        consumer_secret=Secret("with a space in it"),
        passkey=Secret(SANDBOX_PASSKEY),
        faults=(FieldError("mpesa_enabled", "wrong_type", "…"),),
    )
    text, fields = wrong(given)
    assert text == WRONG_FORM
    assert fields == {
        "mpesa_enabled": "wrong_type",
        "mpesa_business_shortcode": "not_a_number",
        "mpesa_till_number": "not_a_number",
        "mpesa_consumer_key": "too_short",
        "mpesa_consumer_secret": "whitespace",
        "mpesa_passkey": "sandbox_value",
    }


def test_a_fault_alone_is_refused_even_when_nothing_would_be_stored() -> None:
    """R4.4: `"false"` is an error, not a silent "unchanged"."""
    text, fields = wrong(change(faults=(FieldError("mpesa_enabled", "wrong_type", "…"),)), row())
    assert (text, fields) == (WRONG_FORM, {"mpesa_enabled": "wrong_type"})


def test_a_till_needs_both_numbers() -> None:
    """Spec R4."""
    _, fields = wrong(change(account_type="till"), row())
    assert fields == {"mpesa_till_number": "missing"}
    assert decide(change(account_type="till", till_number="5123456"), [row()], allow_sandbox=True).fields == (
        "mpesa_account_type",
        "mpesa_till_number",
    )


def test_a_number_that_looks_like_a_till_is_saved_with_a_warning() -> None:
    """existing-platform.md, form rules."""
    save = decide(change(shortcode="512345"), [row()], allow_sandbox=True)
    assert [warning.code for warning in save.warnings] == ["till_suspected"]


@pytest.mark.parametrize(
    "given",
    [{"passkey": PASSKEY}, {"enabled": True}, {"shortcode": "600124"}, {"account_type": "paybill"}],
    ids=["secret", "on", "number", "type"],
)
def test_two_environments_and_none_named_is_refused_where_it_matters(given: dict[str, Any]) -> None:
    """R1, R4.4: nothing says which is meant; the journal may. Never "saved" with nothing saved."""
    rows = [row("sandbox"), row()]
    _, fields = wrong(change(**given), *rows)
    assert fields == {"mpesa_environment": "missing"}
    save = decide(change(**given), rows, allow_sandbox=True, last_active=Environment.PRODUCTION)
    assert save.environment is Environment.PRODUCTION


@pytest.mark.parametrize("rows", [(), (row("sandbox"), row())], ids=["no rows", "two rows"])
def test_the_other_fields_are_judged_also_where_the_environment_is_wrong(rows: tuple[StoredCredentials, ...]) -> None:
    """R4.4: every wrong field at once."""
    unknown = FieldError("mpesa_environment", "unknown_value", "…")
    _, fields = wrong(change(faults=(unknown,), consumer_key=Secret("a7f3"), shortcode="1", account_type="shop"), *rows)
    missing = {} if rows else {"mpesa_consumer_secret": "missing", "mpesa_passkey": "missing"}
    assert fields == {
        "mpesa_environment": "unknown_value",
        "mpesa_account_type": "unknown_value",
        "mpesa_business_shortcode": "not_a_number",
        "mpesa_consumer_key": "too_short",
        **missing,
    }


def test_a_first_save_that_must_name_the_environment_names_the_rest_as_well() -> None:
    """R4.4."""
    _, fields = wrong(change(consumer_key=Secret("short"), enabled=True), allow_sandbox=False)
    assert fields == {
        "mpesa_environment": "missing",
        "mpesa_business_shortcode": "missing",
        "mpesa_consumer_key": "too_short",
        "mpesa_consumer_secret": "missing",
        "mpesa_passkey": "missing",
    }


def test_an_unknown_account_type_alone_is_refused() -> None:
    """R4.4: also where nothing would be stored."""
    _, fields = wrong(change(account_type="shop"))
    assert fields["mpesa_account_type"] == "unknown_value"
    _, fields = wrong(change(account_type="shop", enabled=False), row())
    assert fields == {"mpesa_account_type": "unknown_value"}


def test_switching_on_does_not_judge_a_number_that_was_stored_before() -> None:
    """R1: the stored number is the platform's; only what is missing stops a switch-on."""
    save = decide(change(enabled=True), [row(shortcode="0600-123")], allow_sandbox=True)
    assert (save.environment, save.fields) == (Environment.PRODUCTION, ())
