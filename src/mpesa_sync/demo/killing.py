"""Real saves whose connection is cut in the middle, for the /demo page: what was attempted, and what is there."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from mpesa_sync.db.pool import connect
from mpesa_sync.demo import observer, venues
from mpesa_sync.demo.desk import Desk
from mpesa_sync.demo.observer import Fields
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.demo.venues import Venue
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.secret import Secret
from mpesa_sync.sync.settings_service import SettingsService

_FIRST_UPDATE: Final = "write_credentials"
"""Part of the statement that stores the credentials; the one that writes both fields comes after it."""
_ALL_ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class Survived:
    """What became of a save: `error` where it failed; `times` how often it is written down as done."""

    before: Fields
    after: Fields
    cuts: int
    error: MpesaSyncError | None
    times: int
    secrets_changed: bool

    @property
    def wrote_nothing(self) -> bool:
        """Return whether both rows are those of before, and the secrets too."""
        return self.after == self.before and not self.secrets_changed


async def in_the_middle(desk: Desk, venue: Venue) -> Survived:
    """Cut the connection once, after the credentials were written and before the status is."""
    return await _save(desk, venue, lambda proxy: proxy.cut_statement(_FIRST_UPDATE, after=True))


async def at_commit(desk: Desk, venue: Venue) -> Survived:
    """Cut the connection once while COMMIT is in flight: it is done, and its answer is lost."""
    return await _save(desk, venue, TcpProxy.cut_after_commit)


async def every_time(desk: Desk, venue: Venue) -> Survived:
    """Cut the connection at every attempt."""

    def arm(proxy: TcpProxy) -> None:
        proxy.cut_statement(_FIRST_UPDATE, after=True, times=_ALL_ATTEMPTS)

    return await _save(desk, venue, arm)


async def _save(desk: Desk, venue: Venue, arm: Callable[[TcpProxy], None]) -> Survived:
    """Save new credentials with the other status, through a proxy that `arm` tells when to cut."""
    before, stored = await desk.see(venue), await observer.stored_secrets(desk.outside, venue.id)
    change = SettingsChange(
        bar_id=venue.id,
        enabled=not before.active,
        environment=Environment.PRODUCTION,
        shortcode=venues.shortcode(venue),
        consumer_key=_new(),
        consumer_secret=_new(),
        passkey=_new(),
    )
    operation_id, error, url = uuid4(), None, desk.url.reveal()
    async with (
        TcpProxy.before(url) as proxy,
        connect(proxy.url_for(url), kms_keys=[desk.key], pool_size=2, application_name="mpesa-sync demo") as database,
    ):
        arm(proxy)
        try:
            await SettingsService(database).save(change, desk.person, operation_id=operation_id)
        except MpesaSyncError as exc:
            error = exc
        cuts = proxy.fired.total()
    done = await desk.outside.fetchrow(observer.OPERATION, operation_id)
    return Survived(
        before=before,
        after=await desk.see(venue),
        cuts=cuts,
        error=error,
        times=done["times"] if done["outcome"] == "applied" else 0,
        secrets_changed=await observer.stored_secrets(desk.outside, venue.id) != stored,
    )


def _new() -> Secret:
    return Secret(secrets.token_urlsafe(24))
