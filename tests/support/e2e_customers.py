"""What customers do in the machine over real processes: they ask, and open pages."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from uuid import UUID

from tests.support.e2e_machine import Machine, Rule
from tests.support.e2e_model import offered
from tests.support.e2e_worlds import Bar, Red

_SHOWN_WITHIN_S: Final = 20.0


class Customers:
    """Customers: one who asks, and one who opens a page."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._versions: dict[UUID, tuple[str, int]] = {}

    @property
    def rules(self) -> dict[str, Rule]:
        """Return what they do, by name."""
        return {"customer: asks": self._asks, "customer: opens a page": self._opens}

    async def _asks(self) -> bool:
        bar = self._machine.any_bar()
        async with asyncio.timeout(_SHOWN_WITHIN_S):
            while True:
                answer = await self._machine.place.client.get(f"/api/bars/{bar.id}/payment-methods")
                assert answer.status_code == 200, answer.text
                if self._is_right(bar, answer.json()):
                    return True
                await asyncio.sleep(0.002)  # whoever is late needs the processor, too

    async def _opens(self) -> bool:
        bar, client = self._machine.any_bar(), self._machine.place.client
        stream = client.stream("GET", f"/api/bars/{bar.id}/payment-methods/events")
        async with asyncio.timeout(_SHOWN_WITHIN_S), stream as answer:
            async for line in answer.aiter_lines():
                is_answer = line.startswith("data: {") and '"methods"' in line
                if is_answer and self._is_right(bar, json.loads(line.removeprefix("data: "))):
                    return True
        raise Red(f"{bar.id}: a page was closed before it showed anything that is so")

    def _is_right(self, bar: Bar, said: dict[str, Any]) -> bool:
        """Whether a customer is shown what may be so by now; a version never goes back, whoever answers."""
        methods = tuple(method["id"] for method in said["methods"])
        epoch, _, number = said["version"].partition(":")
        last = self._versions.get(bar.id)
        if last is not None and last[0] == epoch and int(number) < last[1]:
            self._machine.met["an older version from the other process"] += 1
        self._versions[bar.id] = (epoch, int(number))
        if methods not in {world.seen.offer for world in bar.possible()}:
            self._machine.met["shown late"] += 1
            return False
        bar.does(offered, answer=methods)
        return True
