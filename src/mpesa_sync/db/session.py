"""How every transaction of ours begins: isolation and time limits, set inside the transaction.

`SET LOCAL` and not connection parameters, because those do not survive (or are refused by) a pooler.
"""

from __future__ import annotations

from typing import Final

LIMITS: Final = """
set local lock_timeout = '1500ms';
set local statement_timeout = '3s';
set local idle_in_transaction_session_timeout = '2s';
set local row_security = off;
"""
"""Of a single operation (faults.md): a lock wait ends after 1.5 s, above `deadlock_timeout`."""

BEGIN_WRITE: Final = "begin isolation level read committed, read write;" + LIMITS
BEGIN_READ: Final = "begin isolation level read committed, read only;" + LIMITS

BEGIN_SCHEMA: Final = """
begin isolation level read committed, read write;
set local lock_timeout = '1500ms';
set local statement_timeout = '30s';
set local idle_in_transaction_session_timeout = '5s';
set local row_security = off;
"""
"""Of creating, migrating or removing what is ours."""

BEGIN_BATCH: Final = """
begin isolation level read committed, read write;
set local lock_timeout = '200ms';
set local statement_timeout = '10s';
set local idle_in_transaction_session_timeout = '5s';
set local row_security = off;
"""
"""Of a migration batch: it must never make a live writer wait long, so it gives up early itself."""

BEGIN_SCAN: Final = """
begin isolation level read committed, read only;
set local lock_timeout = '1500ms';
set local statement_timeout = '15min';
set local idle_in_transaction_session_timeout = '60s';
set local row_security = off;
"""
"""Of a detection over all bars: one statement, which the database itself forbids to write."""

CONNECTION_SETUP: Final = """
set tcp_keepalives_idle = 5;
set tcp_keepalives_interval = 2;
set tcp_keepalives_count = 3;
"""
"""Once a connection: a host that vanished is noticed within 11 s, and its locks are let go."""

CONNECT_TIMEOUT_S: Final = 5.0
ACQUIRE_TIMEOUT_S: Final = 2.0
ANSWER_TIMEOUT_S: Final = 5.0
"""How long the client waits for one answer: above `statement_timeout`, for a server that has gone silent."""
