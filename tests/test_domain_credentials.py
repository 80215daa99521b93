"""The shape of M-Pesa credentials (form rules of existing-platform.md, spec R4.4, K)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync.domain.credentials import (
    SANDBOX_PASSKEY,
    SANDBOX_SHORTCODE,
    CredentialsInput,
    Environment,
    FieldError,
    check_credentials,
    check_secret,
    clean_text,
    has_refused_characters,
    is_mask,
    is_placeholder,
    is_well_formed,
    means_unchanged,
)
from mpesa_sync.secret import MASK, Secret

KEY, SECRET, PASSKEY = Secret("9vT4kQm2Lx"), Secret("W8sZr1BnYcQ7"), Secret("0f" * 32)
GOOD = CredentialsInput("production", "4012345", consumer_key=KEY, consumer_secret=SECRET, passkey=PASSKEY)
INVISIBLE = {
    "NUL": "\x00", "escape": "\x1b", "tab inside": "\t", "next line": "\x85",
    "right-to-left override": "\u202e", "left-to-right isolate": "\u2066",
    "zero-width space": "\u200b", "zero-width joiner": "\u200d", "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad", "lone surrogate": "\ud800", "line separator": "\u2028",
    "hangul filler": "\u3164", "grapheme joiner": "\u034f",
}  # fmt: skip


def _codes(given: CredentialsInput) -> list[tuple[str, str]]:
    return [(error.field, error.code) for error in check_credentials(given).errors]


@pytest.mark.parametrize("environment", list(Environment))
def test_good_credentials_have_no_errors_and_no_warnings(environment: Environment) -> None:
    """Ten characters are enough; so are five digits and seven (form rules)."""
    for shortcode in ("40123", "401234", "4012345"):
        checked = check_credentials(replace(GOOD, environment=environment.value, shortcode=shortcode))
        assert (checked.errors, checked.warnings) == ((), ())


@pytest.mark.parametrize(
    ("shortcode", "code"),
    [
        ("", "missing"),
        (" \t", "missing"),
        ("1234", "not_a_number"),
        ("12345678", "not_a_number"),
        ("12 345", "not_a_number"),
        ("-12345", "not_a_number"),
        ("1234.5", "not_a_number"),
        ("١٢٣٤٥٦", "not_a_number"),  # Arabic digits
        ("１２３４５６", "not_a_number"),  # full-width digits
        ("12345²", "not_a_number"),
        ("12345\n67", "forbidden_characters"),
        (MASK, "not_a_number"),
    ],
)
def test_a_shortcode_is_five_to_seven_plain_digits(shortcode: str, code: str) -> None:
    """Anything else is refused under the field's name (form rules, R4.4)."""
    assert _codes(replace(GOOD, shortcode=shortcode)) == [("mpesa_business_shortcode", code)]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "missing"),
        ("  \n", "missing"),
        (MASK, "masked"),
        (f" {MASK}\n", "masked"),
        (MASK[:8], "masked"),
        ("9vT4kQm2L", "too_short"),
        ("9vT4kQm2 Lx", "whitespace"),
        ("9vT4kQm2\u00a0Lx", "whitespace"),
        ("9vT4kQm2Lé", "not_ascii"),
        (MASK[:8] + "9vT4kQm2Lx", "not_ascii"),
        ("your_consumer_key", "placeholder"),
        ("test", "placeholder"),
        *((f"9vT4k{sign}Qm2Lx", "forbidden_characters") for sign in INVISIBLE.values()),
    ],
)
@pytest.mark.parametrize("name", ["consumer_key", "consumer_secret", "passkey"])
def test_a_bad_secret_is_named_and_never_shown(name: str, value: str, code: str) -> None:
    """Each of the three is judged alike; field and remedy, never the value (R4.2, R4.4, P7)."""
    match name:
        case "consumer_key":
            given = replace(GOOD, consumer_key=Secret(value))
        case "consumer_secret":
            given = replace(GOOD, consumer_secret=Secret(value))
        case _:
            given = replace(GOOD, passkey=Secret(value))
    (error,) = check_credentials(given).errors
    assert (error.field, error.code) == (f"mpesa_{name}", code)
    assert error.detail == f"{error.field}: {error.message}"
    assert "9vT4" not in f"{error!r} {error.detail} {given!r}"
    assert len(error.message) > 10


def test_every_wrong_field_is_named_once_in_the_order_of_the_form() -> None:
    """Staff correct a form in one go (R4.4)."""
    wrong = CredentialsInput("live", "12", "bank", "", Secret(""), Secret(MASK), Secret("short"))
    assert _codes(wrong) == [
        ("mpesa_environment", "unknown_value"),
        ("mpesa_account_type", "unknown_value"),
        ("mpesa_business_shortcode", "not_a_number"),
        ("mpesa_consumer_key", "missing"),
        ("mpesa_consumer_secret", "masked"),
        ("mpesa_passkey", "too_short"),
    ]


def test_a_secret_that_is_not_part_of_the_change_is_not_judged() -> None:
    """None means: the stored one stays (R4)."""
    assert _codes(CredentialsInput("sandbox", "4012345")) == []


def test_a_till_needs_both_numbers() -> None:
    """Store number as shortcode, and the till number (form rules, daraja.md)."""
    till = replace(GOOD, account_type="till")
    assert _codes(till) == [("mpesa_till_number", "missing")]
    assert _codes(replace(till, till_number="12")) == [("mpesa_till_number", "not_a_number")]
    assert _codes(replace(till, till_number=" 5123456 ")) == []
    assert _codes(replace(till, shortcode="", till_number="5123456")) == [("mpesa_business_shortcode", "missing")]


@pytest.mark.parametrize(
    ("shortcode", "account_type", "suspected"),
    [
        ("512345", "paybill", True),
        (" 512345 ", "paybill", True),
        ("512345", "till", False),  # said to be one
        ("5123456", "paybill", False),
        ("51234", "paybill", False),
        ("412345", "paybill", False),
    ],
)
def test_six_digits_beginning_with_five_look_like_a_till(shortcode: str, account_type: str, suspected: bool) -> None:
    """Such a number is saved, with a warning (form rules)."""
    till_number = "5123456" if account_type == "till" else ""
    checked = check_credentials(replace(GOOD, shortcode=shortcode, account_type=account_type, till_number=till_number))
    assert checked.errors == ()
    assert [warning.code for warning in checked.warnings] == ["till_suspected"] * suspected


def test_a_till_number_on_a_paybill_is_a_warning() -> None:
    """It is left out, and staff are told (R4)."""
    checked = check_credentials(replace(GOOD, till_number="5123456"))
    assert checked.errors == ()
    assert [(w.field, w.code) for w in checked.warnings] == [("mpesa_till_number", "till_number_unused")]


@pytest.mark.parametrize("passkey", [SANDBOX_PASSKEY, f" {SANDBOX_PASSKEY.upper()}\n"])
def test_the_public_sandbox_values_are_refused_in_production(passkey: str) -> None:
    """Shortcode 174379 and the published passkey cannot take a venue's money (daraja.md)."""
    public = replace(GOOD, shortcode=SANDBOX_SHORTCODE, passkey=Secret(passkey))
    assert _codes(public) == [
        ("mpesa_business_shortcode", "sandbox_value"),
        ("mpesa_passkey", "sandbox_value"),
    ]
    assert _codes(replace(public, environment=Environment.SANDBOX)) == []
    till = replace(GOOD, account_type="till", till_number=SANDBOX_SHORTCODE)
    assert _codes(till) == [("mpesa_till_number", "sandbox_value")]


def test_white_space_around_pasted_values_does_not_count() -> None:
    """Also the kinds that a web page puts there; what remains is what gets stored (R4)."""
    padded = CredentialsInput(
        " production\n",
        "\u00a04012345\r\n",
        " till ",
        "\t5123456",
        Secret(f"\u2003{KEY.reveal()}\n"),
        Secret(f"\t{SECRET.reveal()}"),
        Secret(f"{PASSKEY.reveal()}\u3000"),
    )
    assert check_credentials(padded).errors == ()
    assert clean_text(" \t\r\n\u00a0\u2003a b\u3000") == "a b"
    for kept in ("\u200ba\x00", "\x1ca\x85", "\u2028a\x0b"):
        assert clean_text(kept) == kept


@pytest.mark.parametrize("sign", INVISIBLE.values(), ids=INVISIBLE.keys())
def test_invisible_characters_are_refused_in_any_text(sign: str) -> None:
    """They reach the driver as errors, or the eye as something else (faults.md 8)."""
    assert has_refused_characters(f"Karibu{sign}Nairobi")


def test_visible_text_of_any_language_is_not_refused() -> None:
    """A venue's name may hold what people write (faults.md 8)."""
    assert not has_refused_characters("Baa ya “Ñandú” – 酒吧 بار बार 🍻 e\u0301")


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "changeme", "CHANGE_ME", "change-me-123", "your_consumer_key",
        "YOUR-PASSKEY-HERE", "your mpesa consumer secret", "enter_your_passkey", "placeholder",
        "placeholder_secret", "replace_with_your_api_key", "example_key", "dummy-secret-1",
        "x", "xxxxxxxxxxxx", "XXXX-XXXX", "test", "Test123", "testing", "todo", "TBD", "none",
        "null", "undefined", "N/A", "password", "consumer_key", "consumer_secret", "passkey",
        "mpesa_passkey", "********", "----------", "...",
        "<your key>", "${MPESA_PASSKEY}", "{{ passkey }}", "[object Object]", "%PASSKEY%",
    ],
)  # fmt: skip
def test_an_obvious_example_is_a_placeholder(text: str) -> None:
    """What a template or an installer left behind (K, `placeholder`)."""
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text",
    [
        "AbCdEfGhIjKlMnOpQrStUvWxYz012345",  # the first encryption vector
        "9vT4kQm2LxkeysecretW8sZr1", "0000000000", "1234567890", "aaaaaaaaaa", "testQ7z",
        "key-9vT4kQ", "test_consumer_key_8f3a", "x9x8x7x6x5", "your9vT4kQm2Lx", "!#$%&()*+,",
        "<9vT4kQm2Lx>", SANDBOX_PASSKEY, MASK,
    ],
)  # fmt: skip
def test_what_may_be_a_real_value_is_no_placeholder(text: str) -> None:
    """A false alarm would hide M-Pesa at a venue where it works; the mask has its own name (K)."""
    assert not is_placeholder(text)


@given(st.text("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=24))
def test_random_letters_and_digits_are_well_formed(text: str) -> None:
    """The kind of value that Daraja issues passes, whatever it is (P7)."""
    assert set(text.lower()) == {"x"} or check_secret("f", Secret(text)) is None


@given(st.text(max_size=60))
def test_any_text_at_all_is_judged_and_never_shown(text: str) -> None:
    """No input breaks the check; a remedy is one of our own fixed texts (P7, R4.2)."""
    error = check_secret("field", Secret(text))
    assert error is None or isinstance(error, FieldError)
    clean = clean_text(text)
    fits = len(clean) >= 10 and clean.isascii() and all("!" <= sign <= "~" for sign in clean)
    assert fits or error is not None


def test_a_huge_text_is_judged_in_no_time() -> None:
    """Words that fit together in many ways must not run into the time limit of the tests."""
    assert not is_placeholder("passkeyconsumerkeyyour" * 20_000 + "!?9z")


@pytest.mark.parametrize(
    ("value", "unchanged"),
    [
        (None, True), ("", True), (" \n", True), (MASK, True), (f" {MASK} ", True),
        (MASK[:15], False), (MASK + "x", False), ("9vT4kQm2Lx", False),
    ],
)  # fmt: skip
def test_mask_and_blank_posted_back_ask_to_keep_what_is_stored(value: str | None, unchanged: bool) -> None:
    """Sixteen bullets are the mask; fifteen are a mistake, which must not pass in silence (R4)."""
    assert means_unchanged(None if value is None else Secret(value)) is unchanged


def test_bullets_alone_are_the_mask_whatever_their_number() -> None:
    """A mask of another length is no secret either (K, `masked`)."""
    assert is_mask(MASK)
    assert is_mask(f" {MASK * 2}\n")
    assert not is_mask("")
    assert not is_mask(MASK + "x")


@pytest.mark.parametrize("bad", ["", "short", MASK, "changeme", "9vT4 kQm2Lx", " 9vT4kQm2Lx", "9vT4kQm2Lx\n"])
def test_malformed_stored_secrets_are_told(bad: str) -> None:
    """`secrets_malformed` of the rule; a stored value is used as it is, so its blanks count (2)."""
    assert all(is_well_formed(secret) for secret in (KEY, SECRET, PASSKEY))
    assert not is_well_formed(Secret(bad))
