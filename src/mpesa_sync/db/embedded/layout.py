"""What lies where below `home`, and the small files the embedded server keeps there. No process is started here.

<home>/postgres/            0700; everything of ours is in it, so that `home` may hold other things
    data/                   the cluster; appears whole, by a rename
    password                0600, the superuser's, made once
    cluster.json            what made the cluster: major version, and how its processes run
    server.json             the running server; touched under the supervisor's lock alone
    users.lock              shared by every client process for as long as it lives
    start.lock              held while one client starts or finds the server
    supervisor.lock         held by the supervisor for as long as it lives
    server.log              PostgreSQL's log
    supervisor.log
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mpesa_sync.errors import EmbeddedServerError

Way = Literal["direct", "user_namespace", "nobody"]


@dataclass(frozen=True)
class Cluster:
    """What made a data folder. It can only be used in the same way again."""

    major: int
    way: Way


@dataclass(frozen=True)
class State:
    """What the supervisor says of the server: `status` is ready or failed, with `message` for the latter."""

    status: Literal["ready", "failed"]
    message: str = ""
    port: int = 0
    postmaster_pid: int = 0
    supervisor_pid: int = 0
    bin_dir: str = ""
    version: str = ""


class Layout:
    """The paths below one `home`, made absolute."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.folder = self.home / "postgres"
        self.data = self.folder / "data"
        self.password = self.folder / "password"
        self.cluster = self.folder / "cluster.json"
        self.state = self.folder / "server.json"
        self.users_lock = self.folder / "users.lock"
        self.start_lock = self.folder / "start.lock"
        self.supervisor_lock = self.folder / "supervisor.lock"
        self.server_log = self.folder / "server.log"
        self.supervisor_log = self.folder / "supervisor.log"

    def prepare(self) -> None:
        """Make the missing folders (0700); one that exists keeps its rights.

        Raises `EmbeddedServerError` when the folder cannot be made, is another user's, or others may enter.
        """
        try:
            for folder in reversed((self.folder, *self.folder.parents)):
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)
            found = self.folder.lstat()
        except OSError as exc:
            raise EmbeddedServerError(f"the folder {self.folder} cannot be used: {exc.strerror}") from exc
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise EmbeddedServerError(
                f"{self.folder} is not a folder of this user (but of user id {found.st_uid}): run "
                "as that user, or use another folder"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise EmbeddedServerError(f"others may enter {self.folder}: run `chmod 700` on it, or set it aside")

    def has_cluster(self) -> bool:
        """Whether an initialised cluster is here. Raises `EmbeddedServerError` if it cannot be seen."""
        try:
            return (self.data / "PG_VERSION").is_file()
        except OSError as exc:
            raise EmbeddedServerError(f"{self.folder} cannot be read: {exc.strerror}") from exc

    def read_cluster(self) -> Cluster:
        """Return the record of the cluster. Raises `EmbeddedServerError` when it is missing or unreadable."""
        try:
            content = json.loads(self.cluster.read_text())
            record = Cluster(int(content["major"]), content["way"])
            written = int((self.data / "PG_VERSION").read_text())
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise EmbeddedServerError(
                f"{self.cluster} is missing or damaged: set the folder {self.folder} aside"
            ) from exc
        return Cluster(written, record.way)

    def write_cluster(self, record: Cluster) -> None:
        """Record what made the cluster."""
        write_private(self.cluster, json.dumps(asdict(record)))

    def read_state(self) -> State | None:
        """Return what the supervisor says, None when it says nothing."""
        try:
            content: dict[str, Any] = json.loads(self.state.read_text())
            return State(**content)
        except (OSError, ValueError, TypeError):
            return None

    def write_state(self, state: State) -> None:
        """Publish the server to clients, in one step."""
        write_private(self.state, json.dumps(asdict(state)))

    def clear_state(self) -> None:
        """Say nothing of a server any more."""
        self.state.unlink(missing_ok=True)

    def read_password(self) -> str:
        """Return the superuser's password. Raises `EmbeddedServerError` when its file is gone."""
        try:
            return self.password.read_text().strip()
        except OSError as exc:
            raise EmbeddedServerError(
                f"the password file {self.password} cannot be read ({exc.strerror}): put it back, "
                f"or set the folder {self.folder} aside"
            ) from exc

    def free_bytes(self) -> int:
        """Bytes free on the disk that holds the folder; 0 when that cannot be known."""
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return 0


def write_private(path: Path, content: str) -> None:
    """Write a file of mode 0600 so that a reader sees the old content or the new, also after a power cut."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(partial, flags, 0o600), "w") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def open_log(path: Path) -> int:
    """Open a log of mode 0600 for appending and return its descriptor, to be closed by the caller."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)


def trim_log(path: Path, limit_bytes: int) -> None:
    """Begin the log anew above `limit_bytes`, keeping the old content in `<name>.1`.

    It is emptied in place: every backend writes to the same open file, always at its end.
    """
    try:
        if path.stat().st_size <= limit_bytes:
            return
        write_private(path.with_name(path.name + ".1"), path.read_text(errors="replace"))
        os.truncate(path, 0)
    except OSError:  # a log that cannot be trimmed (no disk left) is no reason to stop the database
        return
