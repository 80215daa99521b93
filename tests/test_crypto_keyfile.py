"""A key in a file of its own: private, whole, written once (K)."""

from __future__ import annotations

import stat
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from mpesa_sync.crypto import keyfile
from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.demo import scene
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.secret import Secret


def test_what_was_written_is_read_again_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """Spec 7: 0600."""
    key, path = generate_key(), tmp_path / "kms.key"
    keyfile.create(path, key)
    assert keyfile.read(path) == key
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    """What was sealed under a lost key cannot be opened again; a link to elsewhere is not followed."""
    path = tmp_path / "kms.key"
    path.write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for taken in (path, tmp_path / "link"):
        with pytest.raises(FileExistsError):
            keyfile.create(taken, generate_key())
    assert path.read_text() == "kept"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("k" * 32, 0o644, "others may read"),
        ("k" * 32, 0o640, "others may read"),
        ("k" * 31, 0o600, "has 31 characters"),
        ("ü" * 32, 0o600, "not all of them printable ASCII"),
        ("", 0o600, "has 0 characters"),
    ],
)
def test_a_file_that_is_not_fit_for_use_is_refused_without_its_content(
    tmp_path: Path, content: str, mode: int, words: str
) -> None:
    """Every wrong value is named, and never shown (spec 7)."""
    path = tmp_path / "kms.key"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=words) as refused:
        keyfile.read(path)
    assert not content or content not in "".join(traceback.format_exception(refused.value))


def test_a_link_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    """No file is no key; a link is a file of somebody else's choosing."""
    with pytest.raises(FileNotFoundError):
        keyfile.read(tmp_path / "kms.key")
    (tmp_path / "kms.key").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        keyfile.read(tmp_path / "kms.key")


def test_the_demo_makes_the_key_of_its_folder_once(tmp_path: Path) -> None:
    """The embedded server's key file is used again by every later run."""
    assert scene._key(tmp_path) == scene._key(tmp_path) == keyfile.read(tmp_path / "kms.key")


def test_programs_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    """K, issue 3: none of them reads half a key or seals under another one; nothing else is left in the folder."""
    path, together = tmp_path / "kms.key", Barrier(8)

    def start(_number: int) -> Secret:
        together.wait()
        return keyfile.read_or_create(path)

    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(start, range(8)))
    assert keys == {keyfile.read(path)}
    assert [found.name for found in tmp_path.iterdir()] == ["kms.key"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
