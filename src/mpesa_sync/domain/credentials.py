"""What well-formed M-Pesa credentials look like, as pure functions: nothing is opened or stored."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mpesa_sync.secret import MASK, Secret

SECRET_FIELDS: Final = ("consumer_key", "consumer_secret", "passkey")
"""The three secrets of a credentials row, by the names that reports use (spec K)."""

MIN_SECRET_LENGTH: Final = 10
"""Fewest characters of a key, secret or passkey (existing-platform.md, form rules)."""

SANDBOX_SHORTCODE: Final = "174379"
"""The shortcode that Safaricom publishes for its sandbox (daraja.md); refused in production."""

SANDBOX_PASSKEY: Final = "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919"
"""The passkey that Safaricom publishes for its sandbox: no secret; refused in production."""

# What pasting leaves around a value: tab, line ends, and every space that Unicode files under Zs.
_SPACES: Final = (
    "\t\n\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
# Cc control, Cf bidi and zero-width, Cs lone surrogates, Zl and Zp line separators.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Letters and marks that draw nothing, which Unicode does not file under Cf.
_REFUSED_BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")

# A placeholder is one of the bare words, or a phrase of nothing but phrase words with a giveaway
# among them. Requiring that of the *whole* text keeps real keys, which are random, safe.
_BARE_WORD: Final = re.compile(
    "test(?:ing)?|demo|todo|tbd|none|null|nil|nan?|undefined|unknown|empty|password"
    "|(?:mpesa|api)?(?:consumer)?(?:pass)?(?:key|secret)"
)
_GIVEAWAYS: Final = "placeholder|change(?:me|it|this)|replace|example|dummy|sample|insert|enter|your"
_GIVEAWAY: Final = re.compile(_GIVEAWAYS)
_PHRASE: Final = re.compile(
    f"{_GIVEAWAYS}|production|safaricom|business|shortcode|consumer|sandbox|daraja|secret|mpesa"
    "|value|with|this|pass|live|test|here|api|app|key|the|me"
)
_BRACKETED: Final = re.compile(r"<[a-z _.-]+>|\$?\{+[a-z _.-]+\}+|\[[a-z _.-]+\]|%[a-z_]+%")

_REMEDIES: Final = {
    "missing": "Enter it as it stands in the Daraja portal.",
    "masked": "This is the mask, not the value: enter it as it stands in the Daraja portal.",
    "forbidden_characters": "Holds invisible characters: type it in, or copy it again.",
    "whitespace": "Holds a space: copy it again, in one piece.",
    "not_ascii": "Only plain letters, digits and signs are possible: copy it again.",
    "placeholder": "This is an example, not the value: enter your own.",
    "too_short": f"Must have at least {MIN_SECRET_LENGTH} characters.",
    "sandbox_value": "This is the public value of the sandbox: enter the venue's own.",
}


class Environment(StrEnum):
    """Which of the two M-Pesa systems a credentials row is for."""

    SANDBOX = "sandbox"
    PRODUCTION = "production"


class AccountType(StrEnum):
    """How a venue is paid: one paybill number, or a store and a till number (daraja.md)."""

    PAYBILL = "paybill"
    TILL = "till"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong, or worth a warning, about one field (spec R4.2, R4.4).

    `field` is the name that the form and the API use, `code` a stable machine-readable word,
    `message` says in plain words what to do. Never the value, not even a part of it.
    """

    field: str
    code: str
    message: str

    @property
    def detail(self) -> str:
        """The same as one text, `field: message`, as the API lists it in `details`."""
        return f"{self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class CredentialsInput:
    """Credentials as somebody typed or posted them; white space may still be around every text.

    A secret that is None is not part of this change and is not checked: whether that is so the
    caller decides, with the help of `means_unchanged`. `till_number` counts for a till only.
    """

    environment: str
    shortcode: str
    account_type: str = AccountType.PAYBILL
    till_number: str = ""
    consumer_key: Secret | None = None
    consumer_secret: Secret | None = None
    passkey: Secret | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check_credentials` found, in the order of the form. Warnings never stop a save."""

    errors: tuple[FieldError, ...]
    warnings: tuple[FieldError, ...]


def clean_text(text: str) -> str:
    """Return `text` without the white space that pasting leaves around it (spec R4).

    Only spaces, tabs and line ends go: other invisible characters stay, to be refused by name.
    """
    return text.strip(_SPACES)


def has_refused_characters(text: str) -> bool:
    """Whether `text` holds a control, bidi, zero-width or surrogate character (faults.md, 8).

    Line ends and tabs inside a text count: every text checked here is a single line.
    """
    return any(c in _REFUSED_BLANKS or unicodedata.category(c) in _REFUSED_CATEGORIES for c in text)


def is_mask(text: str) -> bool:
    """Whether `text` is the mask, or as good as: bullets U+2022 and nothing else, any number."""
    return set(clean_text(text)) == {MASK[0]}


def means_unchanged(secret: Secret | None) -> bool:
    """Whether a posted secret asks to keep the stored one: absent, blank, or the mask (spec R4).

    Where nothing is stored the same values mean "missing"; only the caller knows which it is.
    """
    return secret is None or clean_text(secret.reveal()) in ("", MASK)


def is_placeholder(text: str) -> bool:
    """Whether `text` is obviously the example that stood in a secret's place (spec K).

    Blank, words such as `changeme` or `your_consumer_key`, `xxxx…`, one punctuation mark repeated,
    `<…>`, `${…}`. Anything else gets the benefit of the doubt: a false alarm hides M-Pesa at a
    venue where it works, while Daraja itself refuses a placeholder that slipped through.
    """
    cleaned = clean_text(text).lower()
    if not cleaned or _BRACKETED.fullmatch(cleaned):
        return True
    letters = "".join(c for c in cleaned if c.isalnum())
    if not letters:
        return len(set(cleaned)) == 1 and not is_mask(cleaned)
    if set(letters) == {"x"}:
        return True
    words = re.sub("[0-9]{1,4}$", "", letters)
    return bool(_BARE_WORD.fullmatch(words) or (_GIVEAWAY.search(words) and not _PHRASE.sub("", words)))


def check_secret(field: str, secret: Secret) -> FieldError | None:
    """Judge one key, secret or passkey as posted; white space around it does not count.

    Returns the first fault, reported for `field`, or None. Codes: `missing`, `masked`,
    `forbidden_characters`, `whitespace`, `not_ascii`, `placeholder`, `too_short`
    (existing-platform.md, form rules).
    """
    code = _secret_fault(clean_text(secret.reveal()))
    return _error(field, code) if code else None


def _secret_fault(text: str) -> str | None:
    # From the most telling to the least: "too short" says little about a mask or an example.
    faults = {
        "missing": not text,
        "masked": is_mask(text),
        "forbidden_characters": has_refused_characters(text),
        "whitespace": any(c.isspace() for c in text),
        "not_ascii": not text.isascii(),
        "placeholder": is_placeholder(text),
        "too_short": len(text) < MIN_SECRET_LENGTH,
    }
    return next((code for code, found in faults.items() if found), None)


def _error(field: str, code: str) -> FieldError:
    return FieldError(field, code, _REMEDIES[code])


def is_well_formed(secret: Secret) -> bool:
    """Whether one *stored* secret has the right shape.

    It is used as it is, so white space around it, which saving quietly drops, is a fault here.
    """
    return _secret_fault(secret.reveal()) is None


def check_credentials(given: CredentialsInput) -> Checked:
    """Judge a whole form: every wrong field is named, once, with its remedy (spec R4.4, P7).

    Fields are reported under the API's names (`mpesa_business_shortcode` …). Error codes are those
    of `check_secret`, `unknown_value`, `not_a_number` and, in production, `sandbox_value`
    (daraja.md). Warning codes: `till_suspected` (six digits beginning with 5 as a paybill) and
    `till_number_unused`. Raises nothing.
    """
    return Checked(tuple(_errors(given)), tuple(_warnings(given)))


def _errors(given: CredentialsInput) -> Iterator[FieldError]:
    environment, account_type = clean_text(given.environment), clean_text(given.account_type)
    in_production = environment == Environment.PRODUCTION
    is_till = account_type == AccountType.TILL
    if environment not in tuple(Environment):
        yield FieldError("mpesa_environment", "unknown_value", "Choose sandbox or production.")
    if account_type not in tuple(AccountType):
        yield FieldError("mpesa_account_type", "unknown_value", "Choose paybill or till.")
    numbers = [("mpesa_business_shortcode", given.shortcode, "store" if is_till else "paybill")]
    if is_till:
        numbers.append(("mpesa_till_number", given.till_number, "till"))
    for field, number, what in numbers:
        if fault := _check_number(field, clean_text(number), what, in_production):
            yield fault
    for name in SECRET_FIELDS:
        secret: Secret | None = getattr(given, name)
        if secret is not None and (fault := _check_posted(f"mpesa_{name}", secret, in_production)):
            yield fault


def _check_number(field: str, text: str, what: str, in_production: bool) -> FieldError | None:
    if not text:
        return FieldError(field, "missing", f"Enter the {what} number, 5 to 7 digits.")
    if has_refused_characters(text):
        return _error(field, "forbidden_characters")
    # Not `\d` or isdigit(): Arabic and full-width digits are digits too, but not to Daraja.
    if not re.fullmatch("[0-9]{5,7}", text):
        return FieldError(field, "not_a_number", f"The {what} number has 5 to 7 digits, no more.")
    if in_production and text == SANDBOX_SHORTCODE:
        return _error(field, "sandbox_value")
    return None


def _check_posted(field: str, secret: Secret, in_production: bool) -> FieldError | None:
    fault = check_secret(field, secret)
    if fault is None and in_production and clean_text(secret.reveal()).lower() == SANDBOX_PASSKEY:
        return _error(field, "sandbox_value")
    return fault


def _warnings(given: CredentialsInput) -> Iterator[FieldError]:
    if clean_text(given.account_type) != AccountType.PAYBILL:
        return
    if re.fullmatch("5[0-9]{5}", clean_text(given.shortcode)):
        yield FieldError(
            "mpesa_business_shortcode",
            "till_suspected",
            "Looks like a till number: if it is one, choose till and enter the store number here.",
        )
    if clean_text(given.till_number):
        yield FieldError("mpesa_till_number", "till_number_unused", "A paybill has none: it is left out.")
