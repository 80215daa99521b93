"""Callers who write all the time and remember what they were told, to hold it against what a crash has left."""

from __future__ import annotations

from uuid import UUID, uuid4

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import OutcomeUnknown, TransientFault


class Writers:
    """Callers who switch a bar each, again and again, and remember what they were told."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.applied: set[UUID] = set()
        self.failed: set[UUID] = set()
        self.lost: list[UUID] = []
        self.shown: dict[UUID, bool] = {}
        self.over = False

    async def write(self, bar: UUID) -> None:
        """Switch the bar on and off until it is over; what is unknown or failed is asked again under its id."""
        manager, on = MpesaSyncManager(self.database), False
        while not self.over:
            on, operation_id = not on, uuid4()
            while operation_id not in self.applied:
                try:
                    await manager.sync_mpesa_status(bar, on, operation_id=operation_id)
                except OutcomeUnknown:
                    self.lost.append(operation_id)
                except TransientFault:
                    self.lost.append(operation_id)
                    if await self.given_up(operation_id):
                        on = not on
                        break
                else:
                    self.applied.add(operation_id)
                    self.shown[bar] = on

    async def given_up(self, operation_id: UUID) -> bool:
        """Whether the operation was buried, so that its id is good for nothing any more."""
        try:
            async with self.database.reading() as connection:
                outcome = await connection.fetchval(
                    "select outcome from mpesa_sync.operations where id = $1", operation_id
                )
        except TransientFault:
            return False
        self.failed |= {operation_id} if outcome == "failed" else set()
        return bool(outcome == "failed")
