"""From what the driver raises to our own errors: by SQLSTATE and constraint name, never by message text.

The one list of classes of the project (faults.md). A driver error is scrubbed before it is chained: PostgreSQL
prints whole rows into DETAIL and values into messages, and a traceback would show them.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import asyncpg

from mpesa_sync.errors import (
    AccessDenied,
    ConfigurationError,
    ConstraintRefused,
    DatabaseFault,
    MpesaSyncError,
    OutcomeUnknown,
    PermanentFault,
    ResourcesExhausted,
    SchemaError,
    TransientFault,
    TriggerRefused,
)

_LOST: Final = ("57P01", "57P02", "57P03", "57P05", "08")
_TRANSIENT: Final = ("40001", "40P01", "55P03", "57014", "25P03", "25P04", "53300", *_LOST)
"""The list of faults.md, and two that newer servers end an idle session or a long transaction with."""
_EXHAUSTED: Final = ("53100", "53200")
_MISSING_NAMES: Final = ("42P01", "42703", "42883", "3F000")

_LOST_CONNECTION: Final = (
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver had read the server's farewell and not yet the end of the connection
)
_NOT_LET_IN: Final = {
    "28P01": "The database does not accept this user name and password.",
    "28000": "The database does not let this user in.",
    "3D000": "There is no database of this name on the server.",
}
_TRANSIENT_WORDS: Final = {
    "40001": "Another transaction changed the same rows at the same time.",
    "40P01": "Two transactions waited for each other (deadlock).",
    "55P03": "Somebody else holds a lock on the same rows.",
    "57014": "The database took too long and the statement was stopped.",
    "25P03": "The connection was idle inside a transaction for too long.",
    "53300": "The database has no free connection.",
}


def translate(exc: BaseException, *, commit_sent: bool = False) -> BaseException:
    """Return our error for `exc`, to be raised `from exc`; `exc` itself where it is not the database's.

    Arguments:
        exc: what was raised while talking to the database. It is scrubbed of texts that may hold data.
        commit_sent: whether COMMIT had been sent; then a lost connection leaves the outcome unknown.
    """
    if isinstance(exc, MpesaSyncError):
        return exc
    if isinstance(exc, asyncpg.PostgresError):
        _scrub(exc)
        return _from_sqlstate(exc, commit_sent=commit_sent)
    if isinstance(exc, asyncpg.ClientConfigurationError):
        return ConfigurationError(["the database URL cannot be read"])
    if isinstance(exc, _LOST_CONNECTION):
        if commit_sent:
            return OutcomeUnknown("The connection was lost while the change was being committed.")
        away = TransientFault(_unreachable(exc))
        away.is_away = True
        return away
    return exc


def _unreachable(exc: BaseException) -> str:
    if isinstance(exc, ConnectionRefusedError):
        return "The database cannot be reached: nothing listens at this host and port. Does PostgreSQL run there?"
    if isinstance(exc, socket.gaierror):
        return "The database cannot be reached: no host of this name is known."
    if isinstance(exc, TimeoutError):
        return "The database cannot be reached: it does not answer in time."
    return "The database cannot be reached, or the connection to it was lost."


def cause_of(error: BaseException, exc: BaseException) -> BaseException | None:
    """Return what `error`, which `translate` made of `exc`, is to be raised from: never from itself."""
    return exc.__cause__ if error is exc else exc


def _from_sqlstate(exc: asyncpg.PostgresError, *, commit_sent: bool) -> DatabaseFault | SchemaError:
    state = str(exc.sqlstate or "")
    if commit_sent and state.startswith(_LOST):
        return OutcomeUnknown("The connection was lost while the change was being committed.", sqlstate=state)
    if state.startswith(_TRANSIENT) or isinstance(exc, asyncpg.InvalidCachedStatementError):
        words = _TRANSIENT_WORDS.get(state, "The database closed the connection or is not ready.")
        return TransientFault(words, sqlstate=state)
    if state in _EXHAUSTED:
        return ResourcesExhausted("The database server has no disk space or memory left.", sqlstate=state)
    return _permanent(exc, state)


def _permanent(exc: asyncpg.PostgresError, state: str) -> DatabaseFault | SchemaError:
    if state.startswith("23"):
        name = str(getattr(exc, "constraint_name", None) or "")
        rule = f"the constraint {name}" if name else "a constraint"
        return ConstraintRefused(
            f"The database refuses this change: {rule} does not allow it. Meet that rule, for example by enabling "
            "another payment method for the bar, or change it.",
            sqlstate=state,
            constraint=name,
        )
    if state == "42501":
        return AccessDenied(
            "The database role may not do this, or a row level security policy hides rows from it. "
            "Grant it the rights on bars, mpesa_credentials and the schema mpesa_sync, and BYPASSRLS.",
            sqlstate=state,
        )
    if state == "P0001":
        return TriggerRefused("A trigger or function of the platform refuses this change.", sqlstate=state)
    if state in _NOT_LET_IN:
        return PermanentFault(_NOT_LET_IN[state], sqlstate=state)
    if state == "42704":
        return PermanentFault(
            "The database does not know a name or parameter, for example one at the end of the database URL "
            "(SQLSTATE 42704).",
            sqlstate=state,
        )
    if state == "0A000":
        return PermanentFault(
            "The database does not do this here (SQLSTATE 0A000). Is it a standby, a copy that may only be read? Then "
            "give the URL of the server that it copies.",
            sqlstate=state,
        )
    if state in _MISSING_NAMES:
        return SchemaError(
            "A table, column or function is missing in this database (SQLSTATE "
            f"{state}). 'mpesa-sync db status' names what is missing; 'mpesa-sync db init' makes what is ours.",
            sqlstate=state,
        )
    return PermanentFault(f"The database refuses this (SQLSTATE {state or 'none'}).", sqlstate=state)


def _scrub(exc: asyncpg.PostgresError) -> None:
    """Take every text that may hold data out of a driver error (faults.md 2)."""
    for name in ("message", "detail", "hint", "context", "internal_query", "query"):
        if getattr(exc, name, None) is not None:
            setattr(exc, name, None)
    exc.args = (f"SQLSTATE {exc.sqlstate}",)
    exc.__cause__ = exc.__context__ = None
