"""The demo under test: its stage on a database of the tests' server, and the real program with time enough."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.db.pool import connect
from mpesa_sync.demo import scene, site, venues
from mpesa_sync.demo.narrator import Narrator
from mpesa_sync.demo.stage import Stage
from mpesa_sync.secret import Secret
from tests.support.cli import Ended, environment, to_its_end
from tests.support.venues import KEY, KEYS

_TIMEOUT_S: Final = 240


@asynccontextmanager
async def staged(database_url: str, sql: Any) -> AsyncIterator[Stage]:
    """Give the stage with its venues, served on a free port; `stage.site` says where."""
    await venues.add_all(sql, KEYS)
    async with connect(database_url, kms_keys=[KEY], application_name="mpesa-sync demo", reconcile="off") as database:
        with scene.logged() as events, TemporaryDirectory() as folder:
            stage = Stage(
                database=database,
                url=Secret(database_url),
                key=KEY,
                token_key=generate_key(),
                folder=Path(folder),
                plain=sql,
                narrator=Narrator(silent=True),
                events=events,
                server="test",
            )
            async with site.served(stage) as stage.site:
                yield stage


def demo(*arguments: str, cwd: Path, url: str | None = None, **more: str) -> Ended:
    """Run `mpesa-sync demo` to its end."""
    return to_its_end(["demo", *arguments], environment(url, **more), cwd, _TIMEOUT_S)


Deed = Callable[[Stage], Awaitable[None]]


def before(monkeypatch: pytest.MonkeyPatch, word: str, deed: Deed) -> None:
    """Do something before each command of the story that has `word` among its arguments."""
    _beside(monkeypatch, word, deed, is_first=True)


def after(monkeypatch: pytest.MonkeyPatch, word: str, deed: Deed) -> None:
    """Do something after each command of the story that has `word` among its arguments."""
    _beside(monkeypatch, word, deed, is_first=False)


def _beside(monkeypatch: pytest.MonkeyPatch, word: str, deed: Deed, *, is_first: bool) -> None:
    real = Stage.command

    async def command(self: Stage, *arguments: str) -> tuple[int, list[str]]:
        if is_first and word in arguments:
            await deed(self)
        ended = await real(self, *arguments)
        if not is_first and word in arguments:
            await deed(self)
        return ended

    monkeypatch.setattr(Stage, "command", command)
