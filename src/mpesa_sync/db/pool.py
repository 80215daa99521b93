"""`connect`, and the `Database` that everything public takes: a pool, the keys, and how to retry."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import asyncpg

from mpesa_sync.backoff import Backoff
from mpesa_sync.clock import Clock, SystemClock
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.db import session
from mpesa_sync.db.errormap import cause_of, translate
from mpesa_sync.db.pooler import Connecting
from mpesa_sync.db.session import Begin
from mpesa_sync.errors import ConfigurationError, MpesaSyncError, PoolExhausted
from mpesa_sync.monitoring import logs
from mpesa_sync.secret import Secret
from mpesa_sync.settings import SPOOL
from mpesa_sync.settings_reader import database_url_fault

T = TypeVar("T")
ReconcilePolicy = Literal["observe", "repair", "off"]
_log: Final = logs.get("pool")
_POOL_SIZE: Final = 10
_CLOSE_TIMEOUT_S: Final = 10.0


class Database:
    """One PostgreSQL database, the keys for its secrets, and the policy for retries.

    Made by `connect`. Attributes: `keys`, the key ring (may be empty); `allow_sandbox`, whether sandbox
    credentials may serve customers, and `reconcile`, what the reconciler does about drift (None: as the installation
    says); `retry`, `clock`; `alert_spool`, the folder
    where alerts wait while the database cannot take them (None: none); `alerts_may_wait`, whether to look there;
    `alerts_in_memory`, those for which not even the folder had room, by bar and kind.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        *,
        connecting: Connecting,
        keys: KeyRing,
        allow_sandbox: bool | None = None,
        retry: Backoff | None = None,
        clock: Clock | None = None,
        alert_spool: Path | None = None,
    ) -> None:
        self._pool = pool
        self._connecting = connecting
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.keys = keys
        self.allow_sandbox = allow_sandbox
        self.reconcile: ReconcilePolicy | None = None
        self.retry = retry or Backoff()
        self.clock: Clock = clock or SystemClock()
        self.alert_spool = alert_spool
        self.alerts_may_wait = alert_spool is not None
        self.alerts_in_memory: dict[tuple[UUID | None, str], Any] = {}

    @property
    def connections(self) -> tuple[int, int, int]:
        """How many connections are in use, how many are idle, and how many there may be in all."""
        size, idle = self._pool.get_size(), self._pool.get_idle_size()
        return size - idle, idle, self._pool.get_max_size()

    @property
    def is_pooled(self) -> bool | None:
        """Whether a pooler stands between this program and the server; None before the first use."""
        return self._connecting.is_pooled

    async def acquire(self, *, within_s: float = session.ACQUIRE_TIMEOUT_S) -> asyncpg.pool.PoolConnectionProxy[Any]:
        """Return a connection from the pool; give it back with `release`.

        Arguments:
            within_s: seconds that the caller has, where that is less than `session.ACQUIRE_TIMEOUT_S`.
        Raises:
            ConfigurationError: it is closed.
            PoolExhausted: every connection is in use.
            TransientFault: the database cannot be reached.
        """
        if self._closed:
            raise ConfigurationError(["this Database is closed: use it inside its 'async with' block"])
        try:
            return await self._pool.acquire(timeout=min(within_s, session.ACQUIRE_TIMEOUT_S))
        except BaseException as exc:  # noqa: BLE001 - raised again, translated
            error = translate(exc)
            if isinstance(exc, TimeoutError) and self._pool.get_size() == self._pool.get_max_size():
                error = PoolExhausted("Every connection of this program to the database is in use.")
            raise error from cause_of(error, exc)

    async def release(self, connection: asyncpg.pool.PoolConnectionProxy[Any], *, broken: bool = False) -> None:
        """Give a connection back. `broken`: its state is not known, close it at once."""
        if broken and not is_gone(connection):
            connection.terminate()
        await self._pool.release(connection)

    @contextlib.asynccontextmanager
    async def reading(self, begin: Begin = session.READ) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[Any]]:
        """Give a connection in a READ ONLY transaction, which the database itself forbids to write.

        The block may take `begin.budget_s` seconds, and be idle for as long as the limits in `begin.sql` say. No answer
        takes longer than that and `session.ACQUIRE_TIMEOUT_S`, 7 s for `READ`: below the 9 s that a request has.

        Arguments:
            begin: `READ` or `SCAN` of `db.session`.
        Raises:
            DatabaseFault, SchemaError: translated from whatever the driver raises inside.
        """
        connection = await self.acquire()
        usable = False
        end = asyncio.get_running_loop().time() + begin.budget_s
        try:
            async with asyncio.timeout_at(end):
                await connection.execute(begin.sql)
                yield connection
                await connection.execute("rollback")
            usable = True
        except Exception as exc:  # noqa: BLE001 - raised again, translated
            answered = isinstance(exc, asyncpg.PostgresError | MpesaSyncError)
            usable = answered and await rolled_back(connection, by=end)
            error = translate(exc)
            raise error from cause_of(error, exc)
        finally:
            await self.release(connection, broken=not usable)

    async def owned(self, unit: Coroutine[Any, Any, T]) -> T:
        """Run `unit` in a task of the database's own and wait for it (faults.md 1).

        A caller who is cancelled stops waiting; the unit goes on to its end.
        """
        return await asyncio.shield(self.background(unit))

    def background(self, unit: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `unit` in a task of the database's own, which `close` waits for.

        Who does not wait for the task never hears of its failure: such a `unit` has to log what goes wrong in it.
        """
        task = asyncio.create_task(unit)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; an abandoned unit has logged it

    async def close(self) -> None:
        """Let running units end, then close every connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                while self._tasks:  # one that ends may have begun another
                    await asyncio.wait(self._tasks)
        self._closed = True
        try:
            await asyncio.wait_for(self._pool.close(), _CLOSE_TIMEOUT_S)
        except TimeoutError:
            self._pool.terminate()


@contextlib.asynccontextmanager
async def connect(
    url: str | Secret,
    *,
    kms_keys: Sequence[str | Secret] = (),
    allow_sandbox: bool | None = None,
    reconcile: ReconcilePolicy | None = None,
    pool_size: int = _POOL_SIZE,
    retry: Backoff | None = None,
    clock: Clock | None = None,
    application_name: str = "mpesa-sync",
    alert_spool: Path | None = SPOOL,
) -> AsyncIterator[Database]:
    """Open a database for `MpesaSyncManager` and `MpesaMigrationService`; this is all a program needs (R1).

    Nothing is sent before the first use.

    Arguments:
        url: `postgresql://user:password@host:port/database`.
        kms_keys: keys of 32 ASCII characters: the first encrypts, all decrypt. Needed only for switching on
            and for whatever else opens or seals secrets.
        allow_sandbox: whether sandbox credentials may serve customers. None: as the installation says,
            yes for a database that mpesa-sync made, no for one that it was attached to.
        reconcile: what the reconciler does about drift where this program runs it: `repair`, `observe` or `off`.
            None: as the installation says, `repair` in a database that mpesa-sync made, else `observe`.
        pool_size: the most connections that are opened, at least 1.
        retry: how often and how long transient faults are retried (R5.1).
        clock: time; only tests pass one.
        application_name: what `pg_stat_activity` and the audit of the server show.
        alert_spool: the folder where alerts wait while the database cannot take them (R5.2), made when it is first
            needed; each database has a folder of its own in it. None: they are logged and counted only.
    Raises:
        ConfigurationError: the URL cannot be read, or another argument has a wrong value.
        KmsKeyMalformed: a key is not 32 ASCII characters.
    """
    keys = KeyRing.from_texts(kms_keys)
    text = url.reveal() if isinstance(url, Secret) else url
    _require(text, allow_sandbox, reconcile, pool_size)
    connecting = Connecting()
    pool = await _opened(text, connecting, pool_size, application_name)
    spool = None if alert_spool is None else alert_spool / _spool_of(text)
    database = Database(
        pool,
        connecting=connecting,
        keys=keys,
        allow_sandbox=allow_sandbox,
        retry=retry,
        clock=clock,
        alert_spool=spool,
    )
    database.reconcile = reconcile
    try:
        yield database
    finally:
        await database.close()


async def _opened(url: str, connecting: Connecting, size: int, application_name: str) -> asyncpg.Pool[Any]:
    pool = asyncpg.create_pool(
        url,
        connect=connecting,
        min_size=0,
        max_size=size,
        init=_prepare,
        reset=_keep,
        timeout=session.CONNECT_TIMEOUT_S,
        server_settings={"application_name": application_name},
    )
    try:
        await pool
    except Exception as exc:  # noqa: BLE001 - raised again, translated
        error = translate(exc)
        raise error from cause_of(error, exc)
    return pool


def _require(url: str, allow_sandbox: bool | None, reconcile: str | None, pool_size: int) -> None:
    if allow_sandbox not in (None, True, False):
        raise ConfigurationError(["allow_sandbox must be True, False or None"])
    if reconcile not in (None, *get_args(ReconcilePolicy)):
        raise ConfigurationError(["reconcile must be 'repair', 'observe', 'off' or None"])
    if pool_size < 1:
        raise ConfigurationError(["pool_size must be at least 1"])
    if fault := database_url_fault(url):
        raise ConfigurationError([f"the database URL {fault}"])


def _spool_of(url: str) -> str:
    """Return the name of a database's folder in the spool: of its hosts and name, and of nothing secret."""
    parts = urlsplit(url)
    options = [value for name, value in parse_qsl(parts.query) if name in ("host", "port", "database", "dbname")]
    named = "|".join([parts.netloc.rpartition("@")[2].lower(), parts.path, *options])
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def is_gone(connection: Any) -> bool:
    """Return whether a connection is closed; asyncpg empties the pool's handle of a lost one, which then raises."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


async def rolled_back(connection: Any, *, by: float | None = None) -> bool:
    """Roll back and return whether the connection can be used again.

    Arguments:
        by: the time of the event loop at which it is given up, if that is before `session.END_TIMEOUT_S` have passed.
    """
    if is_gone(connection):
        return False
    try:
        latest = asyncio.get_running_loop().time() + session.END_TIMEOUT_S
        async with asyncio.timeout_at(latest if by is None else min(by, latest)):
            await connection.execute("rollback")
    except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is closed for it
        _log.debug("rollback failed", error=type(translate(exc)).__name__)
        return False
    return True


async def _prepare(connection: Any) -> None:
    await connection.execute(session.CONNECTION_SETUP)


async def _keep(_connection: Any) -> None:
    """Reset nothing on release: every transaction of ours has ended and set only LOCAL values."""
