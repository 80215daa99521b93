"""Sealing, opening and judging stored secrets (spec K, facts/encryption-vectors.json)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync.crypto.cipher import Verdict, examine, open_stored, seal
from mpesa_sync.crypto.forms import Form, from_json_text
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.errors import KmsKeyMissing, SecretUnreadable
from mpesa_sync.secret import MASK, Secret

_FILE = json.loads((Path(__file__).parent / "data" / "encryption-vectors.json").read_text("utf-8"))
VECTORS: list[dict[str, Any]] = _FILE["vectors"]
MUST_FAIL: list[dict[str, Any]] = _FILE["must_fail"]

RING = KeyRing.from_texts(["KWzyU8KV3sqbxGbIkdI7tcyfwqlEEvWi"])
OTHER = KeyRing.from_texts(["6WtimH0IQrNAD0XSeQnorJiYnzAuI66d"])
GOOD = Secret("9vT4kQm2LxW8sZr1BnYc")


def _name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def _short(value: object) -> str | None:
    """Name a test case without the random bytes in it, which would be another name in every run."""
    return "stored" if isinstance(value, bytes) else None


def _seal_raw(plain: bytes) -> bytes:
    """Seal bytes that are no text, which `seal` rightly refuses to do."""
    return RING.encrypt(plain)


def test_the_vectors_are_all_there() -> None:
    """A vector file that was emptied would let the next three tests pass on nothing."""
    assert (len(VECTORS), len(MUST_FAIL)) == (5, 5)


@pytest.mark.parametrize("vector", VECTORS, ids=_name)
def test_a_given_vector_opens_in_every_form(vector: dict[str, Any]) -> None:
    """Blobs that the platform wrote open byte for byte, in forms 1, 2 and 3 (K)."""
    ring = KeyRing.from_texts([vector["key_utf8"]])
    raw = from_json_text(vector["bytea_hex"]) or b""
    buffer = from_json_text(vector["json_buffer_bytea_hex"]) or b""
    forms = {Form.RAW: raw, Form.JSON_BUFFER: buffer, Form.HEX_TEXT: vector["bytea_hex"].encode()}
    for form, stored in forms.items():
        opened = open_stored(ring, stored)
        assert opened.secret.reveal().encode().hex() == vector["plaintext_utf8_hex"]
        assert opened.form is form
        assert opened.is_current is (form is Form.RAW)


@pytest.mark.parametrize("vector", VECTORS, ids=_name)
def test_sealing_gives_the_vector_for_the_same_iv(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What we write is byte for byte what the platform would write, for one and the same iv (K)."""
    monkeypatch.setattr(os, "urandom", lambda _size: bytes.fromhex(vector["iv_hex"]))
    sealed = seal(KeyRing.from_texts([vector["key_utf8"]]), Secret(vector["plaintext"]))
    assert sealed == from_json_text(vector["bytea_hex"])


@pytest.mark.parametrize("vector", MUST_FAIL, ids=_name)
def test_a_vector_that_must_fail_does(vector: dict[str, Any]) -> None:
    """Wrong key, a flipped bit, a cut and the other layout never open (K)."""
    ring = KeyRing.from_texts([vector["key_utf8"]])
    stored = from_json_text(vector["bytea_hex"]) or b""
    with pytest.raises(SecretUnreadable) as refusal:
        open_stored(ring, stored)
    assert vector["key_utf8"] not in str(refusal.value)
    cut = len(stored) < 28
    assert examine(ring, stored).verdict is (Verdict.TRUNCATED if cut else Verdict.UNOPENABLE)


@given(st.text(max_size=80))
def test_whatever_is_sealed_opens_again(text: str) -> None:
    """Any Unicode text goes in and comes out, in form 1, 28 bytes longer (K)."""
    sealed = seal(RING, Secret(text))
    assert len(sealed) == 28 + len(text.encode())
    opened = open_stored(RING, sealed)
    assert (opened.secret, opened.form, opened.key_index) == (Secret(text), Form.RAW, 0)


@given(st.integers(min_value=0, max_value=8 * (28 + 20) - 1))
def test_one_flipped_bit_anywhere_makes_it_unopenable(bit: int) -> None:
    """Iv, tag and ciphertext are all protected (K)."""
    sealed = bytearray(seal(RING, GOOD))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SecretUnreadable):
        open_stored(RING, bytes(sealed))


def test_a_blob_that_would_read_as_text_is_sealed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `seal` writes is recognised as form 1, also in the one case in 10^9 (K)."""
    text_like = b"iv-is-text..", b"\x98" * 12
    ivs = iter(text_like)
    monkeypatch.setattr(os, "urandom", lambda _size: next(ivs))
    # AESGCM itself is not changed: the tag that makes a blob printable cannot be found by trying.
    monkeypatch.setattr(RING.__class__, "encrypt", lambda _ring, _plain: os.urandom(12) + b"t" * 20)
    assert seal(RING, GOOD)[:12] == text_like[1]


def test_a_lone_surrogate_is_refused_without_showing_the_secret() -> None:
    """The refusal carries no secret, also not in the exception behind it (K, faults.md 8)."""
    with pytest.raises(ValueError) as refusal:
        seal(RING, Secret("9vT4kQm2Lx\ud800"))
    assert "9vT4" not in repr(refusal.value)
    assert refusal.value.__cause__ is refusal.value.__context__ is None


def test_an_unreadable_secret_brings_no_exception_with_content_along() -> None:
    """Bytes that open and are no text are refused; no UnicodeDecodeError holds them (K)."""
    with pytest.raises(SecretUnreadable) as refusal:
        open_stored(RING, _seal_raw(b"9vT4kQm2Lx\xff"))
    assert refusal.value.__context__ is None


def test_an_old_key_opens_and_says_that_it_was_old() -> None:
    """Rotation sees what still has to be sealed under the first key (K)."""
    both = KeyRing.from_texts(["6WtimH0IQrNAD0XSeQnorJiYnzAuI66d", "KWzyU8KV3sqbxGbIkdI7tcyfwqlEEvWi"])
    opened = open_stored(both, seal(RING, GOOD))
    assert (opened.secret, opened.key_index, opened.is_current) == (GOOD, 1, False)
    examined = examine(both, seal(RING, GOOD))
    assert (examined.verdict, examined.secret, examined.opened) == (Verdict.GOOD, GOOD, opened)


@pytest.mark.parametrize("stored", [seal(RING, GOOD), b"", b"plain text", b"\\x12"], ids=_short)
def test_no_key_at_all_is_told_from_a_wrong_key(stored: bytes) -> None:
    """Without a key nothing can be said of any value: `KmsKeyMissing`, never a verdict (K)."""
    for act in (open_stored, examine):
        with pytest.raises(KmsKeyMissing):
            act(KeyRing.empty(), stored)
    with pytest.raises(KmsKeyMissing):
        seal(KeyRing.empty(), GOOD)
    with pytest.raises(SecretUnreadable):
        open_stored(OTHER, stored)


HEX = b"\\x" + seal(RING, GOOD).hex().encode()
BUFFER = json.dumps({"type": "Buffer", "data": list(seal(RING, GOOD))}).encode()


@pytest.mark.parametrize(
    ("stored", "verdict", "form"),
    [
        (seal(RING, GOOD), Verdict.GOOD, 1),
        (BUFFER, Verdict.GOOD, 2),
        (HEX, Verdict.GOOD, 3),
        (seal(OTHER, GOOD), Verdict.UNOPENABLE, 1),
        (seal(RING, GOOD)[:-1], Verdict.UNOPENABLE, 1),  # cut, but the format cannot tell
        (seal(RING, GOOD)[:27], Verdict.TRUNCATED, 1),
        (HEX[:-1], Verdict.TRUNCATED, 3),
        (BUFFER[:-1], Verdict.MALFORMED, 2),
        (seal(RING, Secret("tooShort9")), Verdict.MALFORMED, 1),
        (seal(RING, Secret("two words here 99")), Verdict.MALFORMED, 1),
        (seal(RING, Secret("9vT4kQm2LxW8sZr1\n")), Verdict.MALFORMED, 1),
        (seal(RING, Secret("ÑvT4kQm2LxW8sZr1BnYc")), Verdict.MALFORMED, 1),
        (_seal_raw(b"9vT4kQm2LxW8\xff\xfe"), Verdict.MALFORMED, 1),
        (seal(RING, Secret(MASK)), Verdict.MASKED, 1),
        (MASK.encode(), Verdict.MASKED, 5),
        (seal(RING, Secret("your_consumer_key")), Verdict.PLACEHOLDER, 1),
        (seal(RING, Secret("changeme")), Verdict.PLACEHOLDER, 1),
        (seal(RING, Secret("")), Verdict.PLACEHOLDER, 1),
        (b"changeme", Verdict.PLACEHOLDER, 5),
        (b" ", Verdict.PLACEHOLDER, 5),
        (b"", Verdict.PLACEHOLDER, 5),
        (None, Verdict.PLACEHOLDER, None),
        (b"a" * 32 + b":" + b"0" * 64, Verdict.LEGACY_CBC, 4),
        (b"9vT4kQm2LxW8sZr1BnYc-in-the-clear", Verdict.PLAINTEXT, 5),
    ],
    ids=_short,
)
def test_every_stored_value_gets_one_verdict_and_its_form(
    stored: bytes | None, verdict: Verdict, form: int | None
) -> None:
    """The eight verdicts of `keys doctor`; the secret comes along only where it is good (K)."""
    examined = examine(RING, stored)
    assert (examined.verdict, examined.form) == (verdict, form)
    assert examined.secret == (GOOD if verdict is Verdict.GOOD else None)
    assert "9vT4" not in repr(examined)


@pytest.mark.parametrize(
    "stored",
    [b"9vT4kQm2LxW8sZr1BnYc-in-the-clear", b"a" * 32 + b":" + b"0" * 64, HEX[:-1], BUFFER[:-1]],
    ids=_short,
)
def test_what_cannot_be_read_is_refused_without_showing_it(stored: bytes) -> None:
    """Plain text, the older scheme and damage are refused; no message shows any of it (K)."""
    with pytest.raises(SecretUnreadable) as refusal:
        open_stored(RING, stored)
    assert stored[:8].decode() not in str(refusal.value)


def test_the_verdicts_are_exactly_the_eight_of_the_contract() -> None:
    """`keys doctor --json` counts by these names, which others read (K)."""
    assert set(Verdict) == {
        "good", "unopenable", "truncated", "malformed",
        "masked", "placeholder", "legacy_cbc", "plaintext",
    }  # fmt: skip


def test_the_twin_with_the_other_byte_order_is_told_apart() -> None:
    """Iv | ciphertext | tag, the common layout, is not ours: code that swaps them is red."""
    iv = b"\x98" * 12
    theirs = iv + AESGCM(b"KWzyU8KV3sqbxGbIkdI7tcyfwqlEEvWi").encrypt(iv, b"9vT4kQm2LxW8sZr1BnYc", None)
    assert examine(RING, theirs).verdict is Verdict.UNOPENABLE
