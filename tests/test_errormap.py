"""From SQLSTATE to our classes, and nothing of the data on the way: every error is raised by a real server."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager, connect, errors
from mpesa_sync.db.errormap import translate
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import DatabaseFault, MpesaSyncError, OutcomeUnknown, TransientFault
from tests.support.databases import url_of
from tests.support.faults import logged
from tests.support.venues import add_bar

CANARY: Final = "canary-5ff0a1c7"
LOST: Final = ["57P01", "57P02", "57P03", "57P05", "08000", "08003", "08006", "08P01"]
TRANSIENT: Final = ["40001", "40P01", "55P03", "57014", "25P03", "25P04", "53300"]
CLASSES: Final = {
    **dict.fromkeys(LOST + TRANSIENT, "TransientFault"),
    **dict.fromkeys(["53100", "53200"], "ResourcesExhausted"),
    **dict.fromkeys(["23000", "23001", "23502", "23503", "23505", "23514", "23P01"], "ConstraintRefused"),
    **dict.fromkeys(
        ["22000", "22003", "22021", "22P02", "42601", "42804", "42809", "XX000", "25006"], "PermanentFault"
    ),
    **dict.fromkeys(["42P01", "42703", "42883", "3F000"], "SchemaError"),
    "P0001": "TriggerRefused",
    "42501": "AccessDenied",
}


async def raised(connection: Any, statement: str, *arguments: object) -> asyncpg.PostgresError:
    """Return what the server answers to a statement that fails."""
    with pytest.raises(asyncpg.PostgresError) as caught:
        await connection.execute(statement, *arguments)
    return caught.value


async def raised_with(connection: Any, sqlstate: str) -> asyncpg.PostgresError:
    """Return a real error of this SQLSTATE, with the canary in every text that it can have."""
    return await raised(
        connection,
        f"do $$ begin raise exception 'message {CANARY}' using errcode = '{sqlstate}', detail = 'detail {CANARY}', "
        f"hint = 'hint {CANARY}'; end $$",
    )


def shows(error: BaseException | None) -> str:
    """Return everything that a log, a page or a debugger makes of an error and of all its causes."""
    assert error is not None
    parts, seen = list(traceback.format_exception(error)), set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        parts += [str(error), repr(error), repr(vars(error)), repr(error.args)]
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


async def test_every_sqlstate_has_its_class(sql: Any) -> None:
    """faults.md, classes: decided by SQLSTATE alone; the texts are gone from the error and from its cause."""
    for sqlstate, name in CLASSES.items():
        driver_error = await raised_with(sql, sqlstate)
        assert CANARY in shows(driver_error)
        error = translate(driver_error)
        assert type(error) is getattr(errors, name), sqlstate
        if isinstance(error, DatabaseFault):
            assert error.sqlstate == sqlstate
        error.__cause__ = driver_error
        assert CANARY not in shows(error)
        assert "message" not in str(driver_error)


async def test_after_commit_was_sent_only_a_lost_connection_leaves_the_outcome_unknown(sql: Any) -> None:
    """faults.md 1: an error at COMMIT is not a failure; any other SQLSTATE answered to COMMIT keeps its class."""
    for sqlstate, name in CLASSES.items():
        error = translate(await raised_with(sql, sqlstate), commit_sent=True)
        assert type(error) is getattr(errors, "OutcomeUnknown" if sqlstate in LOST else name), sqlstate


@pytest.mark.parametrize(
    "lost",
    [
        ConnectionRefusedError(111, CANARY),
        ConnectionResetError(CANARY),
        BrokenPipeError(CANARY),
        TimeoutError(CANARY),
        asyncio.IncompleteReadError(b"", 1),
        asyncpg.InterfaceError(f"connection is closed {CANARY}"),
        asyncpg.InternalClientError(f"cannot switch to state 11 {CANARY}"),
        asyncpg.ConnectionDoesNotExistError(f"connection was closed in the middle of operation {CANARY}"),
    ],
    ids=lambda lost: type(lost).__name__,
)
def test_a_connection_lost_without_a_sqlstate_is_transient_until_commit_was_sent(lost: Exception) -> None:
    """faults.md, classes: connections refused or closed, before and after COMMIT; the text is ours."""
    before, after = translate(lost), translate(lost, commit_sent=True)
    assert isinstance(before, TransientFault)
    assert type(after) is OutcomeUnknown
    assert CANARY not in str(before) + repr(before) + str(after) + repr(after)


def test_what_is_not_the_databases_passes_through() -> None:
    """errormap: our own errors, a cancelled task and a mistake in the program stay what they are."""
    for exc in (errors.BarNotFound("no"), asyncio.CancelledError(), KeyError("x"), ZeroDivisionError()):
        assert translate(exc) is exc
        assert translate(exc, commit_sent=True) is exc


async def test_a_real_value_that_the_driver_refuses_is_not_a_lost_connection(sql: Any) -> None:
    """faults.md 8: lone surrogates and wrong types reach the driver as errors: trying again cannot help."""
    for statement, value in (("select $1::text", "\ud800"), ("select $1::int", CANARY)):
        with pytest.raises(asyncpg.DataError) as caught:
            await sql.fetchval(statement, value)
        error = translate(caught.value)
        assert type(error) is errors.PermanentFault
        assert CANARY not in str(error)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://{user}:wrong@{host}/{database}", "user name and password"),
        ("postgresql://nobody_of_this_name:x@{host}/{database}", "user"),
        ("postgresql://{user}:{password}@{host}/no_such_database", "no database of this name"),
    ],
)
async def test_not_being_let_in_says_why_and_never_with_what(database_url: str, url: str, said: str) -> None:
    """errormap: a wrong password, user or database is permanent, in plain words, without any of the three."""
    parts = urlsplit(database_url)
    wrong = url.format(
        user=parts.username,
        password=parts.password,
        host=f"{parts.hostname}:{parts.port}",
        database=parts.path.lstrip("/"),
    )
    async with connect(wrong) as database:
        with pytest.raises(errors.PermanentFault, match=said) as refused:
            await MpesaSyncManager(database).validate_sync(uuid4())
    assert refused.value.sqlstate in {"28P01", "28000", "3D000"}
    assert str(parts.password) not in shows(refused.value)


@pytest.mark.parametrize("url", ["postgresql://h:port/db", "postgresql://u:" + CANARY + "@[::1/db", "mysql://h/db", ""])
async def test_a_url_that_cannot_be_read_is_a_matter_of_configuration(url: str) -> None:
    """spec 7: named, without its content."""
    with pytest.raises(errors.ConfigurationError) as refused:
        async with connect(url):
            pass
    assert CANARY not in shows(refused.value)


REFUSES: Final = {
    "23514": "alter table public.mpesa_credentials add constraint lucky check (is_active is not true) not valid",
    "23502": "alter table public.mpesa_credentials add column must text; "
    "create function public.blank() returns trigger language plpgsql as $$ begin new.must := null; return new; end $$; "
    "update public.mpesa_credentials set must = ''; alter table public.mpesa_credentials alter must set not null; "
    "create trigger zz_blank before update on public.mpesa_credentials for each row execute function public.blank()",
    "P0001": "create function public.no() returns trigger language plpgsql as "
    "$$ begin raise exception 'row %', new using hint = new.business_shortcode; end $$; "
    "create trigger no before update on public.mpesa_credentials for each row execute function public.no()",
}


@pytest.mark.parametrize("sqlstate", REFUSES)
async def test_a_refused_row_never_shows_in_our_error_or_our_logs(db: Database, sql: Any, sqlstate: str) -> None:
    """faults.md 2: PostgreSQL puts the whole row into DETAIL; nothing of it leaves the error map (R4.2, K).

    Red when `_scrub` forgets `detail` or `message`, or when a fault is raised `from` the unscrubbed error.
    """
    bar = await add_bar(sql, production=False)
    await sql.execute("update public.mpesa_credentials set business_shortcode = $1", CANARY)
    await sql.execute(REFUSES[sqlstate])
    driver_error = await raised(sql, "update public.mpesa_credentials set is_active = true")
    assert driver_error.sqlstate == sqlstate
    assert CANARY in shows(driver_error), "the server does print it, or this test would prove nothing"
    with logged() as events, pytest.raises(errors.PermanentFault) as refused:
        await MpesaSyncManager(db).sync_mpesa_status(bar, True)
    assert refused.value.sqlstate == sqlstate
    assert CANARY not in shows(refused.value)
    assert events
    assert CANARY not in repr(events)
    alert = await sql.fetchrow("select * from mpesa_sync.alerts")
    assert alert["sqlstate"] == sqlstate
    assert CANARY not in repr(dict(alert))


async def test_no_error_is_its_own_cause(db: Database, database_url: str, server_url: str) -> None:
    """conventions.md, `from exc`: programs walk `__cause__` to its end, and some (rich) never stop on a circle."""
    manager = MpesaSyncManager(db)
    caught: list[MpesaSyncError] = []
    with pytest.raises(errors.BarNotFound) as unknown:
        await manager.sync_mpesa_status(uuid4(), False)
    caught.append(unknown.value)
    with pytest.raises(errors.BarNotFound) as unread:
        await manager.validate_sync(uuid4())
    caught.append(unread.value)
    async with asyncpg_transaction(database_url) as connection:
        with pytest.raises(errors.BarNotFound) as joined:
            await manager.sync_mpesa_status(uuid4(), False, connection=connection)
    caught.append(joined.value)
    async with connect(url_of(server_url, "no_such_database")) as nowhere:
        with pytest.raises(errors.PermanentFault) as gone:
            await MpesaSyncManager(nowhere).sync_mpesa_status(uuid4(), False)
    caught.append(gone.value)
    for error in caught:
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__) is not None:
            assert cause not in chain, f"{error!r} is its own cause"
            chain.append(cause)


class asyncpg_transaction:  # noqa: N801 - reads as what it is
    """A plain connection in a READ COMMITTED transaction that is rolled back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    async def __aenter__(self) -> Any:
        self._connection = await asyncpg.connect(self._url)
        await self._connection.execute("begin")
        return self._connection

    async def __aexit__(self, *_exc: object) -> None:
        await self._connection.close()
