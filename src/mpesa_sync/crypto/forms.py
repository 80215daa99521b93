"""The forms in which a secret is found stored, told apart without any key (spec K).

| form | what is stored                              | read | written |
|------|---------------------------------------------|------|---------|
| 1    | the raw blob, iv(12) | tag(16) | ciphertext | yes  | yes     |
| 2    | text `{"type":"Buffer","data":[12,34,…]}`   | yes  | no      |
| 3    | text `\\x` + hex                             | yes  | no      |
| 4    | text `ivhex:cthex`, AES-256-CBC, other key  | no   | no      |
| 5    | plain text                                  | no   | no      |

Raw or text? A blob is random, so 28 bytes of it look like text less often than once in 10^9; hence
text is what decodes as UTF-8 without control characters, and the text forms are looked for in text
only: a blob may well *begin* with `{` or `\\x`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from mpesa_sync.crypto.keyring import BLOB_MIN_LENGTH
from mpesa_sync.secret import Secret

_HEX_TEXT: Final = re.compile(r"\\x([0-9a-fA-F]*)")
_LEGACY_CBC: Final = re.compile(r"[0-9a-fA-F]{32}:[0-9a-fA-F]*")
_BUFFER_START: Final = '{"type":"Buffer","data":['
_BUFFER_TELLING: Final = len('{"type":"')


class Form(IntEnum):
    """The stored forms by their numbers (existing-platform.md)."""

    RAW = 1
    JSON_BUFFER = 2
    HEX_TEXT = 3
    LEGACY_CBC = 4
    PLAIN_TEXT = 5


class Damage(StrEnum):
    """Why a value of form 1, 2 or 3 yields no blob."""

    TRUNCATED = "truncated"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored value, recognised.

    `blob` is the canonical form-1 bytes, for forms 1 to 3 that are not damaged; `damage` says what
    is wrong with the others of them. `text` is what form 5 holds, where it may be a secret.
    """

    form: Form
    blob: bytes | None = field(default=None, repr=False)
    damage: Damage | None = None
    text: Secret | None = None


def from_json_text(text: str | None, *, bytea: bool = True) -> bytes | None:
    """Return the stored bytes of a value read as `to_jsonb(row)->>'column'`; None stays None.

    A bytea arrives as `\\x` + hex and is decoded, any other text is its own UTF-8 bytes. Where the
    column is known to be of type text pass `bytea=False`: `\\x…` in it is then form 3 as stored,
    and not PostgreSQL's way of showing form 1.
    """
    if text is None:
        return None
    if bytea and (match := _HEX_TEXT.fullmatch(text)) and len(match[1]) % 2 == 0:
        return bytes.fromhex(match[1])
    # Not "strict": a UnicodeEncodeError would carry the text, which may be a secret.
    return text.encode("utf-8", "surrogatepass")


def recognise(stored: bytes) -> Stored:
    """Tell the form of a stored value and its canonical blob. Needs no key, raises nothing."""
    text = _as_text(stored)
    if text is None:
        return _of_blob(Form.RAW, bytes(stored))
    compact = text.strip()
    if compact.startswith("\\x"):
        return _of_hex_text(compact)
    if compact.startswith("{") and (found := _of_json_text(compact)):
        return found
    if _LEGACY_CBC.fullmatch(compact):
        return Stored(Form.LEGACY_CBC)
    return Stored(Form.PLAIN_TEXT, text=Secret(text))


def decode_text(data: bytes) -> str | None:
    """Return `data` as UTF-8 text, else None: a UnicodeDecodeError would carry the secret."""
    text = data.decode("utf-8", "replace")
    return text if text.encode("utf-8") == data else None


def _as_text(stored: bytes) -> str | None:
    text = decode_text(stored)
    if text is None or any(unicodedata.category(c) == "Cc" and c not in "\t\r\n" for c in text):
        return None
    return text


def _of_blob(form: Form, blob: bytes) -> Stored:
    if len(blob) < BLOB_MIN_LENGTH:
        return Stored(form, damage=Damage.TRUNCATED)
    return Stored(form, blob)


def _of_hex_text(text: str) -> Stored:
    match = _HEX_TEXT.fullmatch(text)
    if match is None:
        return Stored(Form.HEX_TEXT, damage=Damage.MALFORMED)
    if len(match[1]) % 2:
        return Stored(Form.HEX_TEXT, damage=Damage.TRUNCATED)
    return _of_blob(Form.HEX_TEXT, bytes.fromhex(match[1]))


def _of_json_text(text: str) -> Stored | None:
    """Return None where the text, though it begins with a brace, is no JSON form of a buffer."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get("type") == "Buffer":
        data = value.get("data")
        if isinstance(data, list) and all(type(n) is int and 0 <= n <= 255 for n in data):
            return _of_blob(Form.JSON_BUFFER, bytes(data))
        return Stored(Form.JSON_BUFFER, damage=Damage.MALFORMED)
    start = re.sub(r"\s", "", text[:200])[: len(_BUFFER_START)]
    if len(start) >= _BUFFER_TELLING and _BUFFER_START.startswith(start):
        return Stored(Form.JSON_BUFFER, damage=Damage.MALFORMED)
    return None
