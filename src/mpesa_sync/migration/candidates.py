"""The bars of one look that are to be corrected, 17 bytes each, so that a million of them is no burden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

_SIZE: Final = 17
_TARGETS: Final = (False, True, None)


class Candidates:
    """Bar ids, each with the value that decides and the one that the flag becomes, in the order given.

    Arguments:
        pairs: bar ids and authorities: what decides is what the flag becomes.
    """

    def __init__(self, pairs: Iterable[tuple[UUID, bool]] = ()) -> None:
        self._packed = bytearray()
        for bar_id, authority in pairs:
            self.add(bar_id, authority, authority)

    def __len__(self) -> int:
        return len(self._packed) // _SIZE

    def __iter__(self) -> Iterator[tuple[UUID, bool, bool | None]]:
        for at in range(0, len(self._packed), _SIZE):
            code = self._packed[at + 16]
            yield UUID(bytes=bytes(self._packed[at : at + 16])), bool(code & 1), _TARGETS[code >> 1]

    def add(self, bar_id: UUID, expected: bool, target: bool | None) -> None:
        """Add one."""
        self._packed += bar_id.bytes
        self._packed.append(int(expected) | _TARGETS.index(target) << 1)

    def clear(self) -> None:
        """Remove all."""
        self._packed.clear()
