"""The encryption keys in memory (spec K, existing-platform.md 'Secrets at rest')."""

from __future__ import annotations

import copy
import pickle
import string

import pytest

from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.errors import KmsKeyMalformed, KmsKeyMissing
from mpesa_sync.secret import Secret

OLD = "old-key-old-key-old-key-old-key-"
NEW = "new-key-new-key-new-key-new-key-"


def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    """With several keys new blobs are under the first, old ones stay readable (K)."""
    before = KeyRing.from_texts([OLD]).encrypt(b"content")
    ring = KeyRing.from_texts([NEW, OLD])
    assert ring.decrypt(before) == (1, b"content")
    assert ring.decrypt(ring.encrypt(b"content")) == (0, b"content")
    assert KeyRing.from_texts([NEW]).decrypt(ring.encrypt(b"content")) == (0, b"content")


def test_a_key_that_looks_like_hex_is_taken_as_it_stands() -> None:
    """The 32 characters' bytes are the key: nothing is decoded (existing-platform.md)."""
    hexish = "0123456789abcdef0123456789abcdef"
    blob = KeyRing.from_texts([hexish]).encrypt(b"content")
    assert KeyRing.from_texts([Secret(hexish)]).decrypt(blob) == (0, b"content")
    assert KeyRing.from_texts([hexish.upper()]).decrypt(blob) is None


@pytest.mark.parametrize(
    ("bad", "length"),
    [
        ("", "0"),
        ("k" * 31, "31"),
        ("k" * 33, "33"),
        ("k" * 64, "64"),
        (OLD + "\n", "33"),
        ("é" + "k" * 31, "32"),  # 32 characters, and 33 bytes
        ("é" * 16, "16"),  # 32 bytes, and 16 characters
        ("\ud800" + "k" * 31, "32"),
    ],
)
def test_a_malformed_key_is_refused_by_position_and_length(bad: str, length: str) -> None:
    """Anything but 32 ASCII characters is refused; the message never shows the key (K, 7)."""
    with pytest.raises(KmsKeyMalformed) as refusal:
        KeyRing.from_texts([OLD, Secret(bad)])
    message = str(refusal.value)
    assert "key 2 of 2" in message
    assert f"has {length} characters" in message
    assert "kkk" not in message
    assert "é" not in message


def test_the_same_key_twice_counts_once() -> None:
    """A key that is both the current and an old one does no harm (K)."""
    assert len(KeyRing.from_texts([OLD, Secret(OLD), NEW])) == 2


def test_one_bare_key_instead_of_a_list_is_a_programming_error() -> None:
    """A text is a sequence of texts too: taken as keys it would give 32 confusing refusals."""
    with pytest.raises(TypeError):
        KeyRing.from_texts(OLD)


def test_an_empty_ring_is_false_and_opens_and_seals_nothing() -> None:
    """Without a key the refusal is `KmsKeyMissing` and not "unreadable" (K)."""
    ring = KeyRing.empty()
    assert not ring
    assert not KeyRing.from_texts([])
    assert KeyRing.from_texts([OLD])
    with pytest.raises(KmsKeyMissing):
        ring.encrypt(b"content")
    with pytest.raises(KmsKeyMissing):
        ring.decrypt(bytes(28))


def test_a_ring_shows_and_hands_over_no_key() -> None:
    """Keys reach no log, no traceback and no other process (K)."""
    ring = KeyRing.from_texts([OLD, NEW])
    assert f"{ring!r} {ring} {[ring]}" == "KeyRing(2 keys) KeyRing(2 keys) [KeyRing(2 keys)]"
    assert not hasattr(ring, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(ring)
    with pytest.raises(TypeError):
        copy.deepcopy(ring)


def test_every_blob_has_a_fresh_iv() -> None:
    """AES-GCM breaks when an iv is used twice under one key: no two blobs share one."""
    ring = KeyRing.from_texts([OLD])
    assert len({ring.encrypt(b"content")[:12] for _ in range(1000)}) == 1000


def test_a_generated_key_can_be_used_and_pasted_anywhere() -> None:
    """`keys generate` gives 32 URL-safe characters, never the same twice (K)."""
    keys = [generate_key() for _ in range(200)]
    assert len(set(keys)) == 200
    assert all(len(key.reveal()) == 32 for key in keys)
    letters = set("".join(key.reveal() for key in keys))
    # 192 bits in 32 characters need all of the 64 letters; 6,400 draws show every one of them.
    assert letters == set(string.ascii_letters + string.digits + "-_")
    assert KeyRing.from_texts(keys)
