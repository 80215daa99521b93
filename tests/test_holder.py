"""Telling whether a process has ended (R2)."""

from __future__ import annotations

from mpesa_sync.db import holder


def test_a_process_knows_which_others_have_ended() -> None:
    """R2: by its machine, its number and when it began; what cannot be told is not said to have ended."""
    here = holder.here()
    place, number, began = here.rsplit("/", 2)
    assert not holder.has_ended(here)
    assert holder.has_ended(f"{place}/{number}/{int(began) - 1}"), "the number belongs to another process by now"
    assert not holder.has_ended(f"another machine/{number}/1")
    assert not holder.has_ended("")
