"""Where the story is played: the embedded server, a database made fresh, the key, and what is logged meanwhile."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from mpesa_sync.bootstrap import KEY_FILE
from mpesa_sync.crypto import keyfile
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.db import embedded, migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.demo import venues
from mpesa_sync.demo.narrator import Narrator
from mpesa_sync.demo.stage import Stage
from mpesa_sync.errors import EmbeddedServerError
from mpesa_sync.identity import token_key
from mpesa_sync.secret import Secret

MARK: Final = "Made by 'mpesa-sync demo', which makes it anew at each run."
_STATE: Final = """
select obj_description('public'::regnamespace, 'pg_namespace') as mark,
       to_regnamespace('mpesa_sync') is not null
       or exists (select 1 from pg_catalog.pg_class where relnamespace = 'public'::regnamespace) as holds_something
"""
_ALONE: Final = "select pg_try_advisory_lock(7262617002)"
_CLEAR: Final = """
set lock_timeout = '3s';
drop schema if exists mpesa_sync cascade;
drop schema public cascade;
create schema public;
comment on schema public is 'Made by ''mpesa-sync demo'', which makes it anew at each run.';
"""


class DemoBusy(EmbeddedServerError):
    """Another demo is playing in the same folder."""

    code = "demo_busy"


@asynccontextmanager
async def prepared(home: Path, narrator: Narrator, *, quiet: bool = True) -> AsyncIterator[Stage]:
    """Start the embedded server of `home`, make the demo's database anew, and give the stage with its venues.

    Arguments:
        quiet: collect what the product logs in place of printing it.
    Raises:
        DemoBusy: another demo is playing here.
        EmbeddedServerError: the server does not start, or its database holds data that no demo made.
    """
    async with embedded.running(home) as server:
        url = Secret(server.url)
        plain: Any = await asyncpg.connect(url.reveal(), server_settings={"application_name": "another program"})
        try:
            await _cleared(plain, home)
            key = _key(home)
            async with connect(
                url,
                kms_keys=[key],
                reconcile="off",  # drift is there to be seen
                application_name="mpesa-sync demo",
            ) as database:
                await migrations.migrate(database, mode=Mode.GREENFIELD, create_platform_tables=True)
                await venues.add_all(plain, KeyRing.from_texts([key]))
                with ExitStack() as held:
                    events = held.enter_context(logged()) if quiet else []
                    folder = held.enter_context(tempfile.TemporaryDirectory(prefix="mpesa-sync-demo-"))
                    yield Stage(
                        database=database,
                        url=url,
                        key=key,
                        token_key=token_key.create(home),
                        folder=Path(folder),
                        plain=plain,
                        narrator=narrator,
                        events=events,
                        server=server.version,
                    )
        finally:
            await plain.close()


async def _cleared(plain: Any, home: Path) -> None:
    """Empty the database, once it is known to be a demo's or to hold nothing."""
    if not await plain.fetchval(_ALONE):
        raise DemoBusy(f"another demo is playing in {home}; wait for its end, or play in another folder")
    found = await plain.fetchrow(_STATE)
    if found["holds_something"] and found["mark"] != MARK:
        raise EmbeddedServerError(
            f"the database in {home} holds data that no demo made, and the demo would replace it: it is left "
            "alone. Play the demo in another folder"
        )
    try:
        await plain.execute(_CLEAR)
    except asyncpg.LockNotAvailableError:
        raise DemoBusy(f"another program is using the demo's database in {home}; end it first") from None


def _key(home: Path) -> Secret:
    """Return the key of this folder's embedded server, made and kept (0600) where there is none yet."""
    return keyfile.read_or_create(home / KEY_FILE)


class _Collector(logging.Handler):
    def __init__(self, events: list[dict[str, Any]]) -> None:
        super().__init__(logging.INFO)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the event."""
        if isinstance(record.msg, dict):
            self._events.append(dict(record.msg))


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """Collect the log events of the product in place of printing them: the story shows the ones it speaks of."""
    events: list[dict[str, Any]] = []
    root = logging.getLogger("mpesa_sync")
    before = root.handlers, root.level, root.propagate
    root.handlers, root.propagate = [_Collector(events)], False
    root.setLevel(logging.INFO)
    try:
        yield events
    finally:
        root.handlers, root.propagate = before[0], before[2]
        root.setLevel(before[1])
