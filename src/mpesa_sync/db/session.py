"""How every transaction of ours begins, and how long it may take: limits of the server, and of us above them.

The limits are set inside the transaction, `SET LOCAL`, and not as connection parameters, because those do not
survive (or are refused by) a pooler. The figures are those of faults.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Begin:
    """How one kind of transaction begins.

    `sql` is sent as one round trip. `budget_s` are the seconds from there to the answer of its end, for a server
    that has gone silent: above every limit that the server itself keeps in `sql`.
    """

    sql: str
    budget_s: float


_ONE_BAR: Final = """
set local lock_timeout = '1500ms';
set local statement_timeout = '3s';
set local idle_in_transaction_session_timeout = '2s';
set local row_security = off;
"""

WRITE: Final = Begin("begin isolation level read committed, read write;" + _ONE_BAR, budget_s=5.0)
"""One operation: a lock wait ends after 1.5 s, above `deadlock_timeout`."""

READ: Final = Begin("begin isolation level read committed, read only;" + _ONE_BAR, budget_s=5.0)
"""Looking at a few rows; the database itself forbids it to write."""

BATCH: Final = Begin(
    """
begin isolation level read committed, read write;
set local lock_timeout = '200ms';
set local statement_timeout = '1s';
set local idle_in_transaction_session_timeout = '2s';
set local row_security = off;
""",
    budget_s=15.0,
)
"""A migration batch: it must never make a live writer wait long, so it gives up early itself."""

RECORD: Final = Begin(BATCH.sql + "set local statement_timeout = '3s';", budget_s=15.0)
"""The one record that is left of a batch: nothing smaller can be tried, and a trigger of the platform may be slow."""

SCAN: Final = Begin(
    """
begin isolation level read committed, read only;
set local lock_timeout = '1500ms';
set local statement_timeout = '15min';
set local idle_in_transaction_session_timeout = '60s';
set local row_security = off;
""",
    budget_s=1_000.0,
)
"""A detection over all bars: one statement, which the database itself forbids to write."""

SLICE: Final = Begin(
    """
begin isolation level read committed, read only;
set local lock_timeout = '500ms';
set local statement_timeout = '1s';
set local idle_in_transaction_session_timeout = '1s';
set local row_security = off;
""",
    budget_s=1.5,
)
"""One look of the reconciler at some bars: all day long, so it gives up early and asks for fewer the next time."""

SCHEMA: Final = Begin(
    """
begin isolation level read committed, read write;
set local lock_timeout = '1500ms';
set local statement_timeout = '30s';
set local idle_in_transaction_session_timeout = '2s';
set local row_security = off;
""",
    budget_s=60.0,
)
"""Creating, migrating or removing what is ours."""

GUARDS: Final = Begin(
    """
begin isolation level read committed, read write;
set local lock_timeout = '250ms';
set local statement_timeout = '5s';
set local idle_in_transaction_session_timeout = '2s';
set local row_security = off;
""",
    budget_s=15.0,
)
"""One try to install or remove triggers: while it waits for a table, the platform's writers queue behind it."""

SETTINGS: Final = """
select current_setting('transaction_isolation') as isolation, current_setting('row_security') as row_security,
       current_setting('lock_timeout') as lock_timeout
"""
JOIN: Final = """
select set_config('row_security', 'off', true),
       case when current_setting('lock_timeout') = '0' then set_config('lock_timeout', '1500ms', true) end
"""
"""Inside a caller's transaction: rows that a policy hides are an error, and no lock is waited for without end."""
RESTORE: Final = "select set_config('row_security', $1, true), set_config('lock_timeout', $2, true)"

CONNECTION_SETUP: Final = """
set tcp_keepalives_idle = 5;
set tcp_keepalives_interval = 2;
set tcp_keepalives_count = 3;
"""
"""Once a connection: a host that vanished is noticed within 11 s, and its locks are let go."""

QUEUE_SETUP: Final = (
    CONNECTION_SETUP
    + """
set lock_timeout = '1500ms';
set statement_timeout = '8s';
set idle_in_transaction_session_timeout = '2s';
set row_security = off;
"""
)
"""For the connection of the job queue, which is ours alone and direct: its library begins no transactions as ours."""

CONNECT_TIMEOUT_S: Final = 5.0
ACQUIRE_TIMEOUT_S: Final = 2.0
END_TIMEOUT_S: Final = 2.0
"""For rolling back, and for settling an operation that nobody answered for."""
