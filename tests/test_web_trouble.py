"""What people and programs are told when a request goes wrong half-way: never "failed" where it may be saved (R4)."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.domain.credentials import FieldError
from mpesa_sync.errors import InvalidSettings, OutcomeUnknown, PoolExhausted
from mpesa_sync.sync.settings_service import SettingsService
from mpesa_sync.web import body
from mpesa_sync.web.staff import mpesa_page
from tests.support.browsing import Visitor, with_session
from tests.support.observer import see
from tests.support.venues import add_bar
from tests.support.web import Site

API: Final = "/api/mpesa-settings"
HTML: Final = {"accept": "text/html"}
UNKNOWN: Final = "We do not know whether this was saved."


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception, *, after: bool = True) -> list[UUID]:
    """Let every save raise, after it was stored where wanted; return the list that its operation ids come into."""
    real, ids = SettingsService.save, list[UUID]()

    async def save(self: Any, change: Any, person: Any, *, operation_id: UUID, **more: Any) -> Any:
        ids.append(operation_id)
        if after:
            await real(self, change, person, operation_id=operation_id, **more)
        raise error

    monkeypatch.setattr(SettingsService, "save", save)
    return ids


def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database be away when the page is read again."""

    async def read(*_: Any, **__: Any) -> Any:
        raise PoolExhausted("Every connection is in use.")

    monkeypatch.setattr(mpesa_page, "read", read)


async def switched(site: Site, bar: UUID, who: Visitor) -> Any:
    """Press the switch of the page."""
    fields = {"csrf": who.csrf, "is_active": "true"}
    return await site.client.post(f"/staff/bars/{bar}/mpesa/switch", headers={**who.headers, **HTML}, data=fields)


async def test_an_error_after_the_commit_is_an_unknown_outcome(
    site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R4, faults.md 1: "failed" would be a lie; the operation in the answer tells that it was applied."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    ids = fails(monkeypatch, RuntimeError("canary"))
    answer = await site.client.post(API, headers=owner.headers, json={"barId": str(bar), "mpesa_enabled": True})
    said = answer.json()
    assert (answer.status_code, said["code"], said["outcome"]) == (500, "unexpected", "unknown")
    assert said["operation_id"] == str(ids[0])
    found = await site.client.get(f"/api/operations/{ids[0]}", headers=owner.headers)
    assert found.json()["outcome"] == "applied"
    page = await switched(site, bar, await with_session(site, owner))
    assert page.status_code == 500
    assert UNKNOWN in page.text
    assert str(ids[1]) in page.text
    assert "canary" not in answer.text + page.text
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.mpesa_enabled is True


async def test_an_error_without_an_operation_says_failed(site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """R4: nothing was tried to be written."""
    bar = await add_bar(sql)
    visitor = await with_session(site, await site.person(sql, bar))

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(mpesa_page, "status_of", broken)
    answer = await site.client.get(f"/staff/bars/{bar}/mpesa/status", headers=visitor.headers)
    said = answer.json()
    assert (answer.status_code, said["outcome"], said["operation_id"]) == (500, "failed", None)


async def test_an_unknown_outcome_is_said_when_the_page_cannot_be_read_again(
    site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R4: the database went away with the answer; the person gets the words and the operation, not "try again"."""
    bar = await add_bar(sql, production=False)
    visitor = await with_session(site, await site.person(sql, bar))
    ids = fails(monkeypatch, OutcomeUnknown("The connection was lost while the change was being committed."))
    unreadable(monkeypatch)
    page = await switched(site, bar, visitor)
    assert page.status_code == 503
    assert UNKNOWN in page.text
    assert str(ids[0]) in page.text


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (InvalidSettings("Not complete", [FieldError("mpesa_passkey", "missing", "Enter it.")]), 400, "Not complete"),
        (PoolExhausted("Too many people save at once."), 503, "Too many people save at once."),
    ],
    ids=["refused", "busy"],
)
async def test_the_first_error_is_what_is_said(
    site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, words: str
) -> None:
    """R4.4: that the page cannot be read again does not hide why the save did not work."""
    bar = await add_bar(sql, production=False)
    visitor = await with_session(site, await site.person(sql, bar))
    fails(monkeypatch, error, after=False)
    unreadable(monkeypatch)
    page = await switched(site, bar, visitor)
    assert page.status_code == status
    assert words in page.text
    assert UNKNOWN not in page.text


async def sends(site: Site, content: bytes, *, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of a request and the beginning of its body."""
    host, port = site.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {API} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    return reader, writer


async def test_a_body_that_comes_too_slowly_is_told_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """R4: 408, not a mistake in what was sent."""
    monkeypatch.setattr(body, "_READ_TIMEOUT_S", 0.05)
    reader, writer = await sends(site, b'{"a"', length=100)
    async with asyncio.timeout(20):
        said = (await reader.readuntil(b"}")).decode()
    writer.close()
    assert said.startswith("HTTP/1.1 408 ")
    assert '"code":"body_too_slow"' in said


async def test_a_client_that_goes_away_in_the_middle_of_its_body_is_no_error_of_ours(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 3: anybody could fill the log with it."""
    ended = asyncio.get_running_loop().create_future()
    real = body._read

    async def read(request: Any) -> bytes:
        try:
            return await real(request)
        except Exception as error:
            ended.set_result(error)
            raise

    monkeypatch.setattr(body, "_read", read)
    _, writer = await sends(site, b'{"a"', length=100)
    writer.transport.abort()
    async with asyncio.timeout(20):
        error = await ended
    assert (type(error).__name__, error.http_status) == ("MalformedBody", 400)
    assert (await site.client.get("/livez")).status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_venues_of_a_person_are_read_together(site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 3: the reader takes them in one statement, so that a person of many venues does not wait for each."""
    bars = [await add_bar(sql) for _ in range(5)]
    visitor = await with_session(site, await site.person(sql, *bars))
    everybody, real = asyncio.Barrier(len(bars)), type(site.hub).known

    async def known(self: Any, bar_id: UUID, **more: Any) -> Any:
        await everybody.wait()
        return await real(self, bar_id, **more)

    monkeypatch.setattr(type(site.hub), "known", known)
    async with asyncio.timeout(20):
        page = await site.client.get("/staff", headers=visitor.headers)
    assert set(re.findall(r"/staff/bars/([0-9a-f-]{36})/mpesa", page.text)) == set(map(str, bars))
