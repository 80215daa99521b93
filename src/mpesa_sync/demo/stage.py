"""`Stage`: what a step of the story has at hand, and how it claims and proves something."""

from __future__ import annotations

import asyncio
import shlex
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mpesa_sync.db.pool import Database, connect
from mpesa_sync.demo import observer
from mpesa_sync.demo.narrator import Narrator
from mpesa_sync.demo.observer import Fields
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.demo.venues import Venue
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.secret import Secret
from mpesa_sync.settings import DATABASE_URL
from mpesa_sync.sync.manager import MpesaSyncManager

if TYPE_CHECKING:
    from mpesa_sync.demo.fleet import Planned
    from mpesa_sync.demo.site import Site

STAFF: Final = "staff:wanjiku"
"""Who switches in the story, as the audit names her."""
_COMMAND_WIDTH: Final = 74
_COMMAND_TIMEOUT_S: Final = 30.0
_REFUSED: Final = (1, 64)
"""Exit codes with which a command says on stderr what was wrong."""


class StoryBroken(Exception):
    """A claim of the story turned out to be wrong."""


@dataclass(slots=True)
class Stage:
    """The database under play, another program's connection to it, and the narrator.

    `events`: what the product has logged so far. `changes`: before and after of the step that is playing.
    `token_key` signs bearer tokens. `folder`: where commands are called. `site`: where it is served, None while it is
    not. `planned`: the migration that is planned, None while there is none.
    """

    database: Database
    url: Secret
    key: Secret
    plain: Any
    narrator: Narrator
    events: list[dict[str, Any]]
    server: str
    token_key: Secret
    folder: Path
    site: Site | None = None
    planned: Planned | None = None
    changes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def manager(self) -> MpesaSyncManager:
        """Return a manager on the database under play."""
        return MpesaSyncManager(self.database)

    def say(self, text: str) -> None:
        """Tell what happens next."""
        self.narrator.say(text)

    def check(self, claim: str, holds: object) -> None:
        """Say that a claim holds.

        Raises:
            StoryBroken: it does not.
        """
        if not holds:
            raise StoryBroken(f"not so: {claim}")
        self.narrator.checked(claim)

    async def see(self, venue: Venue) -> Fields:
        """Return both fields of a venue as committed, in one statement."""
        return await observer.see(self.plain, venue.id)

    async def digests(self) -> dict[str, str]:
        """Return a digest of every table."""
        return await observer.digests(self.plain)

    def show(self, venue: Venue, before: Fields, after: Fields) -> None:
        """Show both fields of a venue, before and after, and keep them for the report."""
        self.changes.append({"bar": venue.slug, "before": before.values(), "after": after.values()})
        self.narrator.change(venue.name, before.values(), after.values())

    async def refused(self, expected: type[MpesaSyncError], call: Any) -> MpesaSyncError:
        """Await a call that must be refused; return the error.

        Raises:
            StoryBroken: it was not refused.
        """
        try:
            await call
        except expected as error:
            self.narrator.say(f'"{error.message}"', indent=6, style="yellow")
            return error
        raise StoryBroken(f"not so: refused with {expected.__name__}")

    async def alerts(self, venue: Venue) -> list[dict[str, Any]]:
        """Return the alerts of a venue, the latest first."""
        return [dict(record) for record in await self.plain.fetch(observer.ALERTS, venue.id)]

    @asynccontextmanager
    async def breakable(self) -> AsyncIterator[tuple[TcpProxy, MpesaSyncManager]]:
        """Give a manager whose connections run through a proxy that can cut them."""
        url = self.url.reveal()
        async with (
            TcpProxy.before(url) as proxy,
            connect(proxy.url_for(url), kms_keys=[self.key], pool_size=2) as database,
        ):
            yield proxy, MpesaSyncManager(database)

    async def started(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start `mpesa-sync` with `arguments` as a process of its own, in the stage's folder; show how it was called.

        The URL is given in the environment, where other users of the machine cannot see it.
        """
        self.narrator.line(f"    $ mpesa-sync {shlex.join(arguments)}", "bold")
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "mpesa_sync", *arguments),
            env={DATABASE_URL: self.url.reveal(), "PYTHONUTF8": "1", "NO_COLOR": "1"},
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def command(self, *arguments: str) -> tuple[int, list[str]]:
        """Run `mpesa-sync` with `arguments` to its end; show and return its exit code and what it printed.

        Of stderr only the error is shown, where there is one.
        """
        process = await self.started(*arguments)
        try:
            out, err = await asyncio.wait_for(process.communicate(), _COMMAND_TIMEOUT_S)
        except BaseException:
            if process.returncode is None:
                process.kill()
            raise
        lines = out.decode().splitlines()
        if process.returncode in _REFUSED:
            lines += "".join(err.decode().rpartition("Error: ")[1:]).splitlines()
        for line in lines:
            for part in textwrap.wrap(line, _COMMAND_WIDTH, subsequent_indent="  ", drop_whitespace=False) or [""]:
                self.narrator.line(f"    | {part}".rstrip(), "dim")
        self.narrator.line(f"    exit code {process.returncode}", "dim")
        return process.returncode or 0, lines
