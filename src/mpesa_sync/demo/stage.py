"""`Stage`: what a step of the story has at hand, and how it claims and proves something."""

from __future__ import annotations

import asyncio
import shlex
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
    from mpesa_sync.demo.site import Site

STAFF: Final = "staff:wanjiku"
"""Who switches in the story, as the audit names her."""
_COMMAND_WIDTH: Final = 74
_COMMAND_TIMEOUT_S: Final = 30.0


class StoryBroken(Exception):
    """A claim of the story turned out to be wrong."""


@dataclass(slots=True)
class Stage:
    """The database under play, another program's connection to it, and the narrator.

    `events`: what the product has logged so far. `changes`: before and after of the step that is playing.
    `token_key` signs bearer tokens. `site`: where it is served, None while it is not.
    """

    database: Database
    url: Secret
    key: Secret
    plain: Any
    narrator: Narrator
    events: list[dict[str, Any]]
    server: str
    token_key: Secret
    site: Site | None = None
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

    async def command(self, *arguments: str) -> tuple[int, list[str]]:
        """Run `mpesa-sync migrate` with `arguments` as a process of its own; show and return what it printed.

        The URL is given in the environment, where other users of the machine cannot see it.
        """
        self.narrator.line(f"    $ mpesa-sync migrate {shlex.join(arguments)}", "bold")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "mpesa_sync.migration", *arguments),
            env={DATABASE_URL: self.url.reveal(), "PYTHONUTF8": "1", "NO_COLOR": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), _COMMAND_TIMEOUT_S)
        except BaseException:
            if process.returncode is None:
                process.kill()
            raise
        lines = out.decode().splitlines()
        for line in lines:
            for part in textwrap.wrap(line, _COMMAND_WIDTH, subsequent_indent="  ", drop_whitespace=False) or [""]:
                self.narrator.line(f"    | {part}".rstrip(), "dim")
        if process.returncode == 1:
            self.narrator.line(f"    | {err.decode().strip()}")
        self.narrator.line(f"    exit code {process.returncode}", "dim")
        return process.returncode or 0, lines
