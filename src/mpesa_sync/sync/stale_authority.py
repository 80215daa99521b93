"""Bars whose `is_active` may not be the truth: a later generation of the platform keeps M-Pesa secrets in `bars` (R2).

That no credentials row exists SQL sees; whether a row holds other secrets is seen where a key opens both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from mpesa_sync.crypto.comparing import are_others
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.db import credentials
from mpesa_sync.domain.bars import BarFacts


async def with_other_secrets(connection: Any, keys: KeyRing, bar_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these bars hold secrets in `bars` that stand in none of their credentials rows.

    Nothing is opened, and none is known, without a key. Secrets that no key opens are not known to differ.
    """
    if not keys or not bar_ids:
        return set()
    found = await credentials.in_both_places(connection, bar_ids)
    return {bar_id for bar_id, (ours, rows) in found.items() if are_others(keys, ours, rows)}


async def judged(connection: Any, keys: KeyRing, facts: BarFacts) -> BarFacts:
    """Return the facts of a bar with whether its secrets are known to differ."""
    if not (facts.bar_holds_secrets and facts.rows):
        return facts
    return replace(facts, secrets_differ=bool(await with_other_secrets(connection, keys, [facts.bar_id])))
