"""What is asked of a run of the migration."""

from __future__ import annotations

from typing import Final

import msgspec

from mpesa_sync.domain.inputs import line_of_text
from mpesa_sync.errors import InvalidInput

MAX_BATCH_SIZE: Final = 5_000


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is to go.

    Arguments:
        dry_run: find and report, in READ ONLY transactions; nothing is written.
        batch_size: bars in one transaction, 1 to 5000. None: 50 at first, then as many as take about 150 ms.
        max_changes: refuse, before anything is written, where more bars are to be corrected. None: no limit.
        max_errors: stop once more records than this are quarantined. None: never stop for them (R2.4).
        actor: who runs it, for the journal: 1 to 200 characters.
        reason: why, for the journal: up to 500 characters.
        accept_stale_authority: correct also bars whose secrets stand in `bars` while no credentials row holds them
            (`--authority credentials`).
        mirror_legacy: keep `bars.payment_mpesa_enabled` equal, too, also where nothing else has drifted
            (`--mirror-legacy`). Refused where there is no such column.
    """

    dry_run: bool = False
    batch_size: int | None = None
    max_changes: int | None = None
    max_errors: int | None = None
    actor: str = "migration"
    reason: str = ""
    accept_stale_authority: bool = False
    mirror_legacy: bool = False

    def checked(self) -> RunOptions:
        """Return the options with their texts cleaned.

        Raises:
            InvalidInput: names the option and its limits.
        """
        if self.batch_size is not None and not 1 <= self.batch_size <= MAX_BATCH_SIZE:
            raise InvalidInput("batch_size", f"must be 1 to {MAX_BATCH_SIZE}")
        for name in ("max_changes", "max_errors"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidInput(name, "must be 0 or more")
        return msgspec.structs.replace(
            self,
            actor=line_of_text("actor", self.actor),
            reason=line_of_text("reason", self.reason, shortest=0, longest=500),
        )
