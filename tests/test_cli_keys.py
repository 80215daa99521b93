"""`keys generate`: a fresh key, printed once or written to a private file (K)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mpesa_sync.secret import kms_key_fault
from tests.support.cli import cli


def test_a_key_is_printed_once_and_alone() -> None:
    """K: stdout holds the key and nothing else, so that it can be piped; each is another one."""
    first, second = cli("keys", "generate"), cli("keys", "generate")
    keys = [ended.out.removesuffix("\n") for ended in (first, second)]
    assert first.code == second.code == 0
    assert [kms_key_fault(key) for key in keys] == [None, None]
    assert keys[0] != keys[1]
    assert keys[0] not in first.err


def test_a_key_file_is_private_and_the_key_is_not_printed(tmp_path: Path) -> None:
    """K: 0600 from the first moment; nothing of the key on stdout or stderr."""
    path = tmp_path / "kms.key"
    ended = cli("keys", "generate", "--out", str(path))
    assert ended.code == 0, ended.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text().removesuffix("\n")
    assert kms_key_fault(key) is None
    assert key not in ended.out + ended.err


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_a_key_file_is_never_overwritten(kind: str, tmp_path: Path) -> None:
    """K: an overwritten key is every secret lost."""
    path, target = tmp_path / "kms.key", tmp_path / "other"
    if kind == "file":
        path.write_text("precious")
    else:
        if kind == "link":
            target.write_text("precious")
        path.symlink_to(target)
    ended = cli("keys", "generate", "--out", str(path))
    assert (ended.code, ended.out) == (1, "")
    assert "never overwritten" in ended.err
    assert kind == "dangling link" or path.read_text() == "precious"
    assert kind != "dangling link" or not target.exists()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Spec 6: a clear message and 1."""
    ended = cli("keys", "generate", "--out", str(tmp_path / "no" / "kms.key"))
    assert (ended.code, ended.out) == (1, "")
    assert "No such file or directory" in ended.err


def test_no_setting_is_needed() -> None:
    """K: making the first key must work where nothing is configured, or is configured wrongly."""
    assert cli("keys", "generate", MPESA_KMS_KEY="short").code == 0
