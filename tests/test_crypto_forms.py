"""The stored forms, told apart without a key (spec K, existing-platform.md 'Secrets at rest')."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync.crypto.forms import Damage, Form, from_json_text, recognise
from mpesa_sync.secret import MASK, Secret

BLOB = bytes.fromhex("98b2ee5863b316db15bd50ef466ebaf3dd31a63972c36c18f50d7c1bd5bcaf")
BUFFER = json.dumps({"type": "Buffer", "data": list(BLOB)}).encode()
HEX = b"\\x" + BLOB.hex().encode()
TRUNCATED, MALFORMED = Damage.TRUNCATED, Damage.MALFORMED


@pytest.mark.parametrize(
    ("stored", "form"),
    [
        (BLOB, Form.RAW),
        (BUFFER, Form.JSON_BUFFER),
        (BUFFER.replace(b" ", b""), Form.JSON_BUFFER),
        (b'{"data":' + str(list(BLOB)).encode() + b',"type":"Buffer"}\n', Form.JSON_BUFFER),
        (HEX, Form.HEX_TEXT),
        (HEX.upper().replace(b"\\X", b"\\x") + b"\r\n", Form.HEX_TEXT),
    ],
)
def test_forms_one_to_three_give_the_same_canonical_blob(stored: bytes, form: Form) -> None:
    """Whatever it is wrapped in, the blob is iv | tag | ciphertext (K)."""
    found = recognise(stored)
    assert (found.form, found.blob, found.damage) == (form, BLOB, None)


@pytest.mark.parametrize(
    ("stored", "form"),
    [
        (b"a" * 32 + b":" + b"0" * 64, Form.LEGACY_CBC),
        (b"A1" * 16 + b":" + b"0" * 63, Form.LEGACY_CBC),
        (b"a" * 31 + b":" + b"0" * 64, Form.PLAIN_TEXT),
        (b"AbCdEfGhIjKlMnOpQrStUvWxYz012345", Form.PLAIN_TEXT),
        ("Karibu Nairobi – “Ñandú” 🍻, zaidi ya 28".encode(), Form.PLAIN_TEXT),
        (MASK.encode(), Form.PLAIN_TEXT),
        (b"", Form.PLAIN_TEXT),
        (b"short", Form.PLAIN_TEXT),
        (b'{"type":"Bicycle","data":[1,2,3]}', Form.PLAIN_TEXT),
        (b"{curly but no JSON, and longer than 28}", Form.PLAIN_TEXT),
        ("text with the replacement mark \ufffd in it".encode(), Form.PLAIN_TEXT),
    ],
)
def test_forms_four_and_five_are_recognised_and_yield_no_blob(stored: bytes, form: Form) -> None:
    """They are reported and never read; the mask stored as it is counts as plain text (K)."""
    found = recognise(stored)
    assert (found.form, found.blob, found.damage) == (form, None, None)
    assert found.text == (Secret(stored.decode()) if form is Form.PLAIN_TEXT else None)


@pytest.mark.parametrize(
    ("stored", "form", "damage"),
    [
        (BLOB[:27], Form.RAW, TRUNCATED),
        (BLOB[:1], Form.RAW, TRUNCATED),
        (HEX[:-1], Form.HEX_TEXT, TRUNCATED),
        (HEX[: 2 + 54], Form.HEX_TEXT, TRUNCATED),
        (b"\\x", Form.HEX_TEXT, TRUNCATED),
        (b"\\xnothing hexadecimal", Form.HEX_TEXT, MALFORMED),
        (b'{"type":"Buffer","data":[1,2,3]}', Form.JSON_BUFFER, TRUNCATED),
        (b'{"type":"Buffer","data":[]}', Form.JSON_BUFFER, TRUNCATED),
        (BUFFER[:-1], Form.JSON_BUFFER, MALFORMED),
        (BUFFER[:30], Form.JSON_BUFFER, MALFORMED),
        (BUFFER[:12], Form.JSON_BUFFER, MALFORMED),
        (BUFFER.replace(b"152", b"256"), Form.JSON_BUFFER, MALFORMED),
        (BUFFER.replace(b"152", b"-1"), Form.JSON_BUFFER, MALFORMED),
        (BUFFER.replace(b"152", b"true"), Form.JSON_BUFFER, MALFORMED),
        (BUFFER.replace(b"152", b"1.0"), Form.JSON_BUFFER, MALFORMED),
        (b'{"type":"Buffer","data":"YWJj"}', Form.JSON_BUFFER, MALFORMED),
        (b'{"type":"Buffer"}', Form.JSON_BUFFER, MALFORMED),
        (b'{"type":"Buffer","data":' + b"[" * 200_000, Form.JSON_BUFFER, MALFORMED),
    ],
)
def test_damage_is_told_by_kind_and_form(stored: bytes, form: Form, damage: Damage) -> None:
    """Cut short is `truncated`, a text form that is broken is `malformed`; neither raises (K)."""
    found = recognise(stored)
    assert (found.form, found.blob, found.damage) == (form, None, damage)


@pytest.mark.parametrize("beginning", [b"\\x", b"{", b'{"type":"Buffer","data":[', b"  "])
def test_a_raw_blob_may_begin_like_a_text_form(beginning: bytes) -> None:
    """One random blob in 256 begins with a brace: that alone makes it no JSON (K)."""
    blob = (beginning + BLOB)[: max(28, len(beginning) + 8)]
    found = recognise(blob)
    assert (found.form, found.blob) == (Form.RAW, blob)


def test_bytes_that_decode_and_hold_control_characters_are_no_text() -> None:
    """Nobody typed them: a blob may be valid UTF-8 by chance, hardly without such characters (K)."""
    blob = bytes(range(28))
    assert (recognise(blob).form, recognise(blob).blob) == (Form.RAW, blob)


@given(st.binary(max_size=200))
def test_any_bytes_at_all_have_a_form(stored: bytes) -> None:
    """Recognition never raises, and where it gives a blob, that is long enough to open (K)."""
    found = recognise(stored)
    assert found.blob is None or len(found.blob) >= 28
    assert (found.blob is None) == (found.damage is not None or found.form in (4, 5))


@given(st.text(max_size=200))
def test_any_text_at_all_has_a_form_and_shows_nothing(text: str) -> None:
    """The same for texts; what is recognised does not print what it holds (K)."""
    found = recognise(text.encode("utf-8", "surrogatepass"))
    assert len(repr(found)) < 120


def test_what_sql_shows_as_text_becomes_the_stored_bytes() -> None:
    """`to_jsonb(row)->>'col'` shows a bytea as `\\x` + hex, and a text column as it is."""
    assert from_json_text(None) is None
    assert from_json_text(HEX.decode()) == BLOB
    assert from_json_text("\\x") == b""
    assert from_json_text(BUFFER.decode()) == BUFFER
    assert from_json_text(MASK) == MASK.encode()
    assert from_json_text(HEX.decode()[:-1]) == HEX[:-1]
    assert from_json_text("\\x 98 b2") == b"\\x 98 b2"


def test_form_three_in_a_bytea_column_survives_the_way_through_sql() -> None:
    """One level of hex is PostgreSQL's, the next belongs to the stored value (K, form 3)."""
    shown = "\\x" + HEX.hex()
    found = recognise(from_json_text(shown) or b"")
    assert (found.form, found.blob) == (Form.HEX_TEXT, BLOB)


def test_hex_in_a_text_column_is_form_three_when_the_type_is_known() -> None:
    """A text column cannot hold form 1: told its type, `\\x…` is reported as what it is (K)."""
    shown = HEX.decode()
    assert recognise(from_json_text(shown, bytea=False) or b"").form is Form.HEX_TEXT
    assert recognise(from_json_text(shown) or b"").form is Form.RAW
