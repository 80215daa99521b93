"""The drifted bars of one detection, 17 bytes each, so that a million of them is no burden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

_SIZE: Final = 17


class Candidates:
    """Bar ids with the authority that detection saw, in the order of ids.

    Arguments:
        pairs: bar ids and authorities, in any order.
    """

    def __init__(self, pairs: Iterable[tuple[UUID, bool]]) -> None:
        packed = sorted(bar_id.bytes + (b"\x01" if authority else b"\x00") for bar_id, authority in pairs)
        self._packed = b"".join(packed)

    def __len__(self) -> int:
        return len(self._packed) // _SIZE

    def batches(self, size: int) -> Iterator[list[tuple[UUID, bool]]]:
        """Yield them `size` at a time, at least 1."""
        for start in range(0, len(self._packed), size * _SIZE):
            part = self._packed[start : start + size * _SIZE]
            yield [(UUID(bytes=part[at : at + 16]), part[at + 16] == 1) for at in range(0, len(part), _SIZE)]
