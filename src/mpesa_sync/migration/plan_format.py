"""What stands in a saved plan, as JSON Lines: a header, the bars in the order of ids, their count and a digest."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from mpesa_sync.db.plan_identity import DatabaseIdentity
from mpesa_sync.domain.availability import Direction
from mpesa_sync.domain.inputs import line_of_text
from mpesa_sync.errors import InvalidInput
from mpesa_sync.migration.report import LEGACY

FORMAT: Final = "mpesa-sync plan"
VERSION: Final = 1
LIFETIME: Final = timedelta(hours=24)
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class PlanHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a plan: of which database, when, by whom and why.

    Attributes: `expires_at`, from when it is refused; `scanned`, the bars that were looked at;
    `accept_stale_authority`, whether bars are in it whose `is_active` may not be the truth; `mirror_legacy`, whether
    `payment_mpesa_enabled` is set, too.
    """

    format: str = FORMAT
    version: int = VERSION
    database: DatabaseIdentity
    created_at: Moment
    expires_at: Moment
    actor: str
    reason: str = ""
    scanned: Count
    accept_stale_authority: bool = False
    mirror_legacy: bool = False

    @classmethod
    def made(
        cls,
        database: DatabaseIdentity,
        *,
        now: datetime,
        actor: str,
        reason: str = "",
        scanned: int,
        accept_stale_authority: bool = False,
        mirror_legacy: bool = False,
        lifetime: timedelta = LIFETIME,
    ) -> PlanHeader:
        """Return the header of a plan that is made now and lasts for `lifetime`; `now` has a zone.

        Raises:
            InvalidInput: `actor` (1 to 200 characters) or `reason` (up to 500) has a wrong form.
        """
        return cls(
            database=database,
            created_at=now,
            expires_at=now + lifetime,
            actor=line_of_text("actor", actor),
            reason=line_of_text("reason", reason, shortest=0, longest=500),
            scanned=scanned,
            accept_stale_authority=accept_stale_authority,
            mirror_legacy=mirror_legacy,
        )


class PlannedBar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One bar to be corrected: `shown` is set to `authority`. `direction` is `hidden` or `exposed`.

    In a plan that mirrors also `legacy`: the two agree, and `payment_mpesa_enabled` is set to them.
    """

    bar_id: UUID
    authority: bool
    shown: bool | None
    direction: str

    @property
    def is_drift(self) -> bool:
        """Return whether the direction is the one in which the two values disagree, or `legacy` where they do not."""
        if bool(self.shown) == self.authority:
            return self.direction == LEGACY
        return self.direction == (Direction.HIDDEN if self.authority else Direction.EXPOSED)


class Trailer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line: how many bars there are, and the SHA-256 of all bytes before this line, in hex."""

    count: Count
    digest: str


class AnyHeader(msgspec.Struct, frozen=True):
    """What a plan of any version says of itself."""

    format: str
    version: int


def line_of(value: msgspec.Struct) -> bytes:
    """Return the one form in which a value stands in a plan."""
    return msgspec.json.encode(value) + b"\n"


def has_clean_texts(header: PlanHeader) -> bool:
    """Return whether actor and reason are as `PlanHeader.made` lets them in."""
    try:
        actor = line_of_text("actor", header.actor)
        return (actor, line_of_text("reason", header.reason, shortest=0, longest=500)) == (header.actor, header.reason)
    except InvalidInput:
        return False


def words_of(exc: Exception) -> str:
    """Return why a file could not be opened."""
    words: Any = getattr(exc, "strerror", None)
    return str(words or "this is no name of a file")
