"""What the process says when it ends (spec 6)."""

from __future__ import annotations

from enum import IntEnum

from mpesa_sync.errors import ConfigurationError, InvalidInput, KmsKeyMalformed, MpesaSyncError
from mpesa_sync.refusals import RunUnderWay


class ExitCode(IntEnum):
    """The exit codes of every command."""

    OK = 0
    """In sync, or done."""
    ERROR = 1
    DRIFT = 2
    """Drift, or pending changes."""
    QUARANTINED = 3
    """Finished, with quarantined records."""
    BUSY = 4
    """Another run owns it."""
    UNVERIFIED = 5
    """Verification failed."""
    LIMIT = 6
    """A limit stopped it."""
    USAGE = 64
    """The command line or the settings are wrong; nothing was done."""
    INTERRUPTED = 130


def of_error(error: MpesaSyncError) -> ExitCode:
    """Return the exit code of an expected error."""
    if isinstance(error, ConfigurationError | InvalidInput | KmsKeyMalformed):
        return ExitCode.USAGE
    return ExitCode.BUSY if isinstance(error, RunUnderWay) else ExitCode.ERROR
