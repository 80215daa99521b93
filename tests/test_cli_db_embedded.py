"""Which database `db` works on where an embedded server stands in the folder (spec 6)."""

from __future__ import annotations

from pathlib import Path

from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.db import embedded
from tests.support.cli import cli


def test_the_embedded_server_of_the_folder_is_used_where_nothing_else_is_named(tmp_path: Path) -> None:
    """Spec 6, 7: ./.mpesa-sync is our own database: init makes the tables, check works, the key file is read."""
    home = tmp_path / ".mpesa-sync"
    with embedded.start(home, extra_settings={"fsync": "off"}):
        ended = cli("db", "init", cwd=tmp_path)
        assert ended.code == 0, ended.err
        assert "(greenfield)" in ended.out
        assert "the embedded server in ./.mpesa-sync" in ended.err
        assert cli("check", cwd=tmp_path).code == 0
        key = home / "kms.key"
        key.write_text(generate_key().reveal() + "\n")
        key.chmod(0o644)
        refused = cli("check", cwd=tmp_path)
        assert refused.code == 64
        assert "chmod 600" in refused.err
        key.chmod(0o600)
        assert cli("check", cwd=tmp_path).code == 0
        key.write_text("short")
        assert "has 5 characters" in cli("check", cwd=tmp_path).err
    assert str(key.read_text()) not in refused.err


def test_the_embedded_server_is_not_used_where_another_database_is_named(tmp_path: Path) -> None:
    """Spec 6: a named database that is away is an error, never a reason to take the next best one."""
    data = tmp_path / ".mpesa-sync" / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    ended = cli("check", url="postgresql://u@127.0.0.1:1/shop", cwd=tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert "shop on 127.0.0.1:1" in ended.err
