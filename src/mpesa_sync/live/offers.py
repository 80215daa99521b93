"""What customers of a bar are offered, as a value with its encoded JSON and its version, and which of two is newer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from typing import Final
from uuid import UUID

import msgspec

from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.crypto.usability import worst_of
from mpesa_sync.db import identity
from mpesa_sync.db import offers as offers_sql
from mpesa_sync.db.credentials import StoredSecrets
from mpesa_sync.db.first_answer import FirstAnswers
from mpesa_sync.db.offers import StoredOffer
from mpesa_sync.db.pool import Database
from mpesa_sync.domain import availability
from mpesa_sync.domain.availability import BarWarning, Method, Reason
from mpesa_sync.domain.bars import BarFacts, SecretsState
from mpesa_sync.domain.inputs import line_of_text
from mpesa_sync.errors import BarNotFound, InvalidInput

NOT_FOUND: Final = "There is no bar with this id or slug."
_LABELS: Final = {Method.MPESA: "M-Pesa", Method.CARD: "Card", Method.CASH: "Cash"}
_JUDGED: Final = 50_000
"""How many rows' secrets are remembered as judged: a sweep opens only those that have changed."""
_encode: Final = msgspec.json.Encoder().encode


class BarName(msgspec.Struct, frozen=True):
    """What a bar is called."""

    id: UUID
    slug: str | None
    name: str


class Choice(msgspec.Struct, frozen=True):
    """One way to pay, with the words for it."""

    id: Method
    label: str


class Offer(msgspec.Struct, frozen=True):
    """What customers may pay with (spec 6). It holds no reasons: those are for staff."""

    bar: BarName
    methods: tuple[Choice, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one bar, all of one moment.

    `body` is the JSON of `offer`. `reason` says why M-Pesa is hidden, None where it is offered. `epoch` and
    `version` order it: within an epoch the higher version is the newer one.
    """

    offer: Offer
    body: bytes
    facts: BarFacts
    reason: Reason | None
    warnings: tuple[BarWarning, ...]
    epoch: str
    version: int

    @property
    def is_closed(self) -> bool:
        """Return whether the venue is marked as closed, which its customers are told beside the offer."""
        return self.facts.active is False

    def is_older_than(self, seen: str | None) -> bool:
        """Return whether `seen`, as a client sends it, is a newer version of the same epoch."""
        epoch, _, number = (seen or "").partition(":")
        return epoch == self.epoch and number.isdecimal() and int(number[:19]) > self.version


class Step(Enum):
    """What a fresh read means beside what is held."""

    PUBLISH = auto()
    """It is newer, or of another epoch, or the first."""
    REFRESH = auto()
    """Customers see the same: nothing to send."""
    BUMP = auto()
    """Customers see something else under the same version: a writer moved no version. Move it first."""
    RAISE = auto()
    """It is older than what was shown, and never goes out under its version (L3). Reads come one after another, so
    the database itself has gone back, as by a restore of old rows: move the version past what was shown."""


def step(held: Known | None, read: Known) -> Step:
    """Return what to do with `read` where pages may show `held` (L3, L4)."""
    if held is None or held.epoch != read.epoch or held.version < read.version:
        return Step.PUBLISH
    if held.version > read.version:
        return Step.RAISE
    return Step.REFRESH if (held.body, held.is_closed) == (read.body, read.is_closed) else Step.BUMP


class Judge:
    """Applies the rule (spec 2) to stored offers with the keys at hand.

    Without a key nothing can be opened, so nothing that is stored can serve: M-Pesa is hidden as `secrets_unreadable`.

    Arguments:
        keys: the key ring; it may be empty.
        allow_sandbox: whether sandbox credentials may serve customers; None: as the installation says.
    """

    def __init__(self, keys: KeyRing, allow_sandbox: bool | None) -> None:
        self._keys = keys
        self._allow_sandbox = allow_sandbox
        self._worth = lru_cache(maxsize=_JUDGED)(self._opened)

    def known(self, stored: StoredOffer) -> Known:
        """Return what customers are offered, and why."""
        allow_sandbox = stored.allow_sandbox if self._allow_sandbox is None else self._allow_sandbox
        named = stored.named
        rows = zip(named.facts.rows, stored.secrets, strict=True)
        facts = replace(named.facts, rows=tuple(replace(row, secrets=self._worth(secrets)) for row, secrets in rows))
        methods = availability.offer(facts, allow_sandbox=allow_sandbox)
        offer = Offer(
            bar=BarName(facts.bar_id, named.slug, named.name),
            methods=tuple(Choice(method, _LABELS[method]) for method in methods),
            version=f"{stored.epoch}:{stored.version}",
        )
        return Known(
            offer=offer,
            body=_encode(offer),
            facts=facts,
            reason=availability.hidden_reason(facts, allow_sandbox=allow_sandbox),
            warnings=availability.warnings(facts, allow_sandbox=allow_sandbox),
            epoch=stored.epoch,
            version=stored.version,
        )

    def _opened(self, secrets: StoredSecrets) -> SecretsState:
        if not all(secrets):
            return SecretsState.MISSING
        return worst_of(self._keys, secrets) if self._keys else SecretsState.UNREADABLE


async def read(database: Database, judge: Judge, bar_ids: Sequence[UUID]) -> Mapping[UUID, Known]:
    """Return what customers of these bars are offered now; a bar that does not exist is left out.

    Raises:
        DatabaseFault, SchemaError: the database cannot be asked.
    """
    async with database.reading(offers_sql.READ) as connection:
        stored = await offers_sql.read(connection, bar_ids)
    return {bar_id: judge.known(one) for bar_id, one in stored.items()}


async def read_soon(reads: FirstAnswers, judge: Judge, bar_ids: Sequence[UUID]) -> Mapping[UUID, Known]:
    """Do the same for pages that wait.

    Raises:
        DatabaseFault, SchemaError: the database cannot be asked.
    """
    stored = await reads(lambda connection: offers_sql.read(connection, bar_ids))
    return {bar_id: judge.known(one) for bar_id, one in stored.items()}


def uuid_in(text: str) -> UUID | None:
    """Return the UUID that a text is, None where it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


async def resolve(database: Database, text: str) -> UUID:
    """Return the id of the bar that an id or a slug means; an id wins (spec 6).

    Raises:
        BarNotFound: there is no such bar; the text is not repeated.
        DatabaseFault, SchemaError: the database cannot be asked.
    """
    try:
        text = line_of_text("bar", text, longest=500)
        async with database.reading(offers_sql.READ) as connection:
            return await identity.bar_named(connection, text)
    except (BarNotFound, InvalidInput):
        raise BarNotFound(NOT_FOUND) from None
