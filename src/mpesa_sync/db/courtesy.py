"""What became of an operation's copies in the platform's own logs: told where one was refused, never an error.

The copies are made by `mpesa_sync.courtesy_copy_v1`, in the statement that stores the operation's result.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mpesa_sync.db.operations import Operation
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event

_FINE: Final = frozenset({"written", "absent", "unneeded"})
_log: Final = logs.get("courtesy")


def report(operation: Operation, copies: str) -> None:
    """Log each table that keeps no copy of an operation although it is there.

    Arguments:
        copies: JSON, by name of the table: `written`, `absent`, `unneeded`, or the SQLSTATE that refused it.
    """
    for table, outcome in msgspec.json.decode(copies, type=dict[str, str]).items():
        if outcome not in _FINE:
            _log.info(
                Event.COURTESY_COPY_FAILED,
                table=f"public.{table}",
                sqlstate=outcome,
                operation_id=str(operation.id),
                bar_id=str(operation.bar_id),
            )
