"""Which environment becomes active when M-Pesa is switched on (R1)."""

from __future__ import annotations

from collections.abc import Sequence

from mpesa_sync.domain.bars import CredentialsRow
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.errors import AmbiguousEnvironment, CredentialsMissing


def choose(
    rows: Sequence[CredentialsRow],
    *,
    named: Environment | None = None,
    last_active: Environment | None = None,
) -> Environment:
    """Return the one environment that is to be active.

    In this order: the named one; else the only row present; else the only row already active; else the one
    that our journal last saw active.

    Raises:
        CredentialsMissing: there is no row at all, or none for the named environment.
        AmbiguousEnvironment: none of the four says which.
    """
    present = {row.environment for row in rows}
    if named is not None:
        if named not in present:
            raise CredentialsMissing(f"There are no M-Pesa credentials for {named}. Save them first, then switch on.")
        return named
    if not present:
        raise CredentialsMissing("There are no M-Pesa credentials. Save them first, then switch on.")
    active = {row.environment for row in rows if row.is_active is True}
    for only in (present, active):
        if len(only) == 1:
            return next(iter(only))
    if last_active in present:
        return last_active
    raise AmbiguousEnvironment(
        "Credentials exist for sandbox and production. Say which one is to be active: environment="
        "'sandbox' or environment='production'."
    )
