"""People who look at the web application: with a session's cookie, choices on a page, events of a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser

import httpx

from mpesa_sync.db.accounts import Account
from mpesa_sync.identity import sessions
from mpesa_sync.web.auth import COOKIE
from tests.support.live_page import Said
from tests.support.web import Asker, Site


@dataclass(frozen=True)
class Visitor:
    """A browser with a session: its headers, and the CSRF token of its pages."""

    headers: dict[str, str]
    csrf: str


async def with_session(site: Site, who: Asker, *, operator: bool = False) -> Visitor:
    """Begin a session for somebody, as signing in does after the password was right."""
    session = await sessions.create(site.context.database, Account(who.id, who.name, operator, datetime.now(UTC)))
    return Visitor({"cookie": f"{COOKIE}={session.token.reveal()}"}, session.csrf)


class _Choices(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.inside = False
        self.outer: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "template":
            self.outer.append(tag)
        elif tag == "ul" and found.get("id") == "methods":
            self.inside = "hidden" not in found
        elif tag == "input" and found.get("name") == "method" and self.inside and not self.outer:
            self.shown.append(str(found["value"]))

    def handle_endtag(self, tag: str) -> None:
        if tag == "template":
            self.outer.pop()
        elif tag == "ul":
            self.inside = False


def choices_on(html: str) -> list[str]:
    """Return what a customers' page lets choose without any script: the inputs that a browser shows."""
    found = _Choices()
    found.feed(html)
    return found.shown


@asynccontextmanager
async def open_stream(client: httpx.AsyncClient, path: str) -> AsyncIterator[AsyncIterator[Said]]:
    """Open a stream over HTTP, and give its `payment-methods` events as they come."""
    async with client.stream("GET", path) as answer:
        assert answer.status_code == 200, answer.status_code
        yield _frames(answer)


async def _frames(answer: httpx.Response) -> AsyncIterator[Said]:
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name:
            event[name] = value
            continue
        if event.get("event") == "payment-methods":
            yield Said(event["event"], event["id"], json.loads(event["data"]))
        event = {}
    raise AssertionError("the stream ended")
