"""What staff do in the machine over real processes, over HTTP: every answer is held against the possible worlds."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from tests.support.e2e_machine import Machine, Rule
from tests.support.e2e_model import APPLIED, ENVIRONMENTS, FAILED, REFUSED, Name, Op, saved, switched
from tests.support.e2e_worlds import Bar, Red
from tests.support.venues import SECRETS

PATH: Final = "/api/mpesa-settings"
_KEYED: Final = 0.3
"""How many requests carry a key, so that they can be asked again."""
_REMEMBERED: Final = 40
_MOST_LOST: Final = 2
"""Lost requests of one bar that nobody has asked again for."""
_IN_FLIGHT: Final = "idempotency_key_in_flight"
_SETTLED_WITHIN_S: Final = 40.0


@dataclass
class Keyed:
    """A request that can be asked again. `answer` None: it was never heard."""

    bar: Bar
    number: int
    headers: dict[str, str]
    body: dict[str, Any]
    answer: tuple[int, Any] | None = field(default=None)


class Staff:
    """Owners and managers of all bars."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._draw = machine, machine.draw
        self._asked: list[Keyed] = []
        self._number = 0

    @property
    def rules(self) -> dict[str, Rule]:
        """Return what they do, by name."""
        return {
            "staff: switch on": lambda: self._switch(on=True),
            "staff: switch off": lambda: self._switch(on=False),
            "staff: save": self._save,
            "staff: refused": self._refused,
            "staff: stale form": self._stale,
            "staff: answer lost": self._lost,
            "staff: asked again": self._again,
        }

    async def _switch(self, *, on: bool) -> bool:
        bar = self._machine.any_bar()
        body, op = self.drawn_switch(bar, on=on)
        return await self._told(bar, body, op)

    async def _save(self) -> bool:
        bar = self._machine.any_bar()
        body, op = self.drawn_save(bar)
        return await self._told(bar, body, op)

    def drawn_switch(self, bar: Bar, *, on: bool) -> tuple[dict[str, Any], Op]:
        """Draw a switch: what is posted, and what that means."""
        named: Name | None = self._draw.choice((None, None, *ENVIRONMENTS)) if on else None
        body: dict[str, Any] = {"barId": str(bar.id), "mpesa_enabled": on}
        return body if named is None else {**body, "mpesa_environment": named}, switched(on, named)

    def drawn_save(self, bar: Bar) -> tuple[dict[str, Any], Op]:
        """Draw a save of all credentials, with a status or without one."""
        environment, enabled = self._draw.choice(ENVIRONMENTS), self._draw.choice((True, False, None))
        passkey = f"passkey-{self._draw.getrandbits(96):024x}"
        body: dict[str, Any] = {
            "barId": str(bar.id),
            "mpesa_environment": environment,
            "mpesa_business_shortcode": "600123",
            "mpesa_consumer_key": SECRETS[0].reveal(),
            "mpesa_consumer_secret": SECRETS[1].reveal(),
            "mpesa_passkey": passkey,
        }
        return body if enabled is None else {**body, "mpesa_enabled": enabled}, saved(environment, enabled, passkey)

    def drawn(self, bar: Bar) -> tuple[dict[str, Any], Op]:
        """Draw a switch or a save."""
        if self._draw.random() < 0.4:
            return self.drawn_save(bar)
        return self.drawn_switch(bar, on=self._draw.random() < 0.6)

    async def _told(self, bar: Bar, body: dict[str, Any], op: Op) -> bool:
        """Post, hear the answer, and believe it."""
        keyed = self._keyed(bar, body) if self._draw.random() < _KEYED else None
        answer = await self.post(body, keyed.headers if keyed else self._writer())
        bar.does(op, answer=outcome_of(answer))
        if keyed is not None:
            keyed.answer = (answer.status_code, answer.json())
            self._asked = [*self._asked, keyed][-_REMEMBERED:]
        return True

    async def post(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
        """Post as an owner, or with these headers."""
        return await self._machine.place.client.post(PATH, json=body, headers=headers or self._writer())

    def _writer(self) -> dict[str, str]:
        return self._machine.place.signed_in[self._draw.choice(("owner", "manager"))]

    def _keyed(self, bar: Bar, body: dict[str, Any]) -> Keyed:
        self._number += 1
        headers = {**self._writer(), "idempotency-key": f"{self._draw.getrandbits(128):032x}"}
        return Keyed(bar, self._number, headers, body)

    async def _refused(self) -> bool:
        """Ask for what is refused whatever is stored: nothing may come of it, which the next look sees."""
        bar, who = self._machine.any_bar(), self._machine.place.signed_in
        good = {"barId": str(bar.id), "mpesa_enabled": self._draw.random() < 0.5}
        status, body, headers = self._draw.choice(
            (
                (400, {**good, "mpesa_enabled": "false"}, who["owner"]),
                (400, {**good, "mpesa_environment": "staging"}, who["owner"]),
                (400, {**good, "mpesa_business_shortcode": "six", "mpesa_environment": "sandbox"}, who["owner"]),
                (400, {**good, "mpesa_enable": True}, who["owner"]),
                (400, {"mpesa_enabled": True}, who["owner"]),
                (401, good, {"accept": "application/json"}),
                (403, good, who["staff"]),
                (404, good, who["stranger"]),
                (404, {**good, "barId": str(UUID(int=self._draw.getrandbits(128), version=4))}, who["owner"]),
            )
        )
        answer = await self.post(body, headers)
        if answer.status_code != status:
            raise Red(f"{bar.id}: {answer.status_code} for what must be refused with {status}: {answer.text}")
        return True

    async def _stale(self) -> bool:
        """Post a form that somebody else has overtaken meanwhile: refused, and he is named."""
        bar, place = self._machine.any_bar(), self._machine.place
        read = await place.client.get(PATH, params={"barId": str(bar.id)}, headers=place.signed_in["staff"])
        assert read.status_code == 200, read.text
        faster, op = self.drawn_save(bar)
        bar.does(op, answer=outcome_of(await self.post(faster, place.signed_in["manager"])))
        body, _ = self.drawn(bar)
        late = await self.post(body, {**place.signed_in["owner"], "if-match": read.headers["etag"]})
        if late.status_code != 409 or late.json()["code"] != "stale_form":
            raise Red(f"{bar.id}: a stale form was answered {late.status_code}: {late.text}")
        return True

    async def _lost(self) -> bool:
        """Send a request, or half of it, and go away without its answer: it is done, or it is not."""
        bar = self._machine.any_bar()
        if len(bar.lost) >= _MOST_LOST:
            await self.settle_lost(bar)
        body, op = self.drawn(bar)
        keyed = self._keyed(bar, body)
        self._asked.append(keyed)
        bar.loses(keyed.number, op)
        await send_and_leave(
            self._machine.place.serving.url,
            keyed.headers,
            body,
            share=self._draw.choice((1.0, 1.0, 0.5)),
            after_s=self._draw.choice((0.0, 0.001, 0.004, 0.02)),
        )
        return True

    async def _again(self) -> bool:
        """Ask again for what was asked: the answer of the first time, and nothing is done twice."""
        if not self._asked:
            return False
        lost = [keyed for keyed in self._asked if keyed.answer is None]
        await self._ask_again(self._draw.choice(lost if lost and self._draw.random() < 0.7 else self._asked))
        return True

    async def settle_lost(self, bar: Bar | None = None) -> None:
        """Ask again for everything whose answer was never heard, or for that of one bar."""
        for keyed in [keyed for keyed in self._asked if keyed.answer is None and bar in (None, keyed.bar)]:
            await self._ask_again(keyed)
            await self._machine.look()

    async def _ask_again(self, keyed: Keyed) -> None:
        async with asyncio.timeout(_SETTLED_WITHIN_S):
            while True:
                answer = await self.post(keyed.body, keyed.headers)
                if answer.status_code != 409 or answer.json()["code"] != _IN_FLIGHT:
                    break
                self._machine.met["key in flight"] += 1
                await asyncio.sleep(0.02)
        said = (answer.status_code, answer.json())
        if keyed.answer is None:
            keyed.bar.hears(keyed.number, outcome_of(answer))
            self._machine.met[f"lost: {'done before' if is_replayed(answer) else 'done now'}"] += 1
        elif said != keyed.answer:
            raise Red(f"{keyed.bar.id}: asked again, and told {said}, not {keyed.answer}")
        keyed.answer = said


def is_replayed(answer: httpx.Response) -> bool:
    """Whether an answer says that it was given before."""
    return bool(answer.headers.get("idempotency-replayed") == "true")


def outcome_of(answer: httpx.Response) -> str:
    """Return what an answer says that became of a request.

    Raises:
        Red: it says so in a way that nobody may be told.
    """
    if answer.status_code == 200:
        said = answer.json()["sync_status"]
        if said != {"credentials_updated": True, "bar_status_updated": True}:
            raise Red(f"saved, and {said}")
        return APPLIED
    problem = answer.json()
    if answer.status_code == 400:
        return REFUSED
    is_of_the_database = answer.status_code in (500, 503) or problem["code"] == "constraint_refused"
    if is_of_the_database and problem["outcome"] == "failed":
        return FAILED
    raise Red(f"{answer.status_code}: {answer.text}")


async def send_and_leave(
    url: str, headers: dict[str, str], body: dict[str, Any], *, share: float, after_s: float
) -> None:
    """Send a share of a request over a connection of its own, and reset that before the answer is read."""
    parts, text = urlsplit(url), json.dumps(body).encode()
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    named = {"host": parts.netloc, "content-type": "application/json", "content-length": str(len(text)), **headers}
    lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
    with suppress(ConnectionError):
        sent = "\r\n".join(lines).encode() + text
        writer.write(sent[: len(sent) - round(len(text) * (1.0 - share))])
        await writer.drain()
        await asyncio.sleep(after_s)
    writer.transport.abort()
