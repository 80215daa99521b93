"""mpesa-sync: a venue's M-Pesa switch and what its customers are offered, kept one fact.

async with mpesa_sync.connect(url, kms_keys=[key]) as db:
    await mpesa_sync.MpesaSyncManager(db).sync_mpesa_status(bar_id, True, actor="…")
"""

from mpesa_sync.db.operations import Origin
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.report import InconsistentRecord, MigrationResult, Progress, Run, ValidationSummary
from mpesa_sync.migration.service import MpesaMigrationService
from mpesa_sync.sync.manager import MpesaSyncManager
from mpesa_sync.sync.results import RepairResult, SyncResult, ValidationResult

__all__ = [
    "Database",
    "InconsistentRecord",
    "MigrationResult",
    "MpesaMigrationService",
    "MpesaSyncError",
    "MpesaSyncManager",
    "Origin",
    "Progress",
    "RepairResult",
    "Run",
    "RunOptions",
    "SyncResult",
    "ValidationResult",
    "ValidationSummary",
    "connect",
]
