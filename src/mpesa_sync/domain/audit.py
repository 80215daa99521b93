"""The acts that an audit names, `subject:action`, and which of them an operation is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class AuditAct(StrEnum):
    """What was done, as the platform's own logs call it."""

    SWITCHED_ON = "mpesa:switched_on"
    SWITCHED_OFF = "mpesa:switched_off"
    SETTINGS_SAVED = "mpesa:settings_saved"
    REPAIRED = "mpesa:repaired"


def act_of(kind: str, after: Mapping[str, Any], request: Mapping[str, Any]) -> AuditAct | None:
    """Return which act an operation was; None for one that the platform's logs are not told.

    A save that stored no credentials is none: what it switched is an operation of its own.

    Arguments:
        kind: that of the operation.
        after: what the audit keeps of what it left.
        request: what was asked.
    """
    if kind == "switch":
        return AuditAct.SWITCHED_ON if request.get("is_active") is True else AuditAct.SWITCHED_OFF
    if kind == "repair":
        return AuditAct.REPAIRED
    return AuditAct.SETTINGS_SAVED if kind == "settings" and after.get("saved") else None
