"""`Stream`: one open page. It holds what has to be said, never a queue: what is said is always the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

from mpesa_sync.live.watched import Entry

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


class Wire(Protocol):
    """The connection under a stream, as a server may give it beside ASGI: its coroutines are half of a frame's cost."""

    def write_now(self, body: bytes) -> bool:
        """Write a part of the answer; return False, and write nothing, where the client has to be waited for."""

    def abort(self) -> None:
        """Cut the connection, whatever still waits in it."""


STALE: Final = b"event: stale\ndata: {}\n\n"
BEAT: Final = b"event: hb\ndata: {}\n\n"


class Stream:
    """One client on one bar, between its first and its last byte.

    Arguments:
        entry: the bar, with its newest frame.
        address: whom the client counts for.
        send: the server's; waits where the client takes nothing.
        wire: the connection under it; None: all is sent by `send`.
        retry_ms: how long the client waits before it comes back.
        ends_at, beat_at: on the clock's monotonic time.
    """

    __slots__ = (
        "_greeting",
        "_handler",
        "_send",
        "address",
        "beat_at",
        "beat_due",
        "busy_since",
        "bye",
        "cause",
        "ends_at",
        "entry",
        "frame_due",
        "has_parted",
        "is_open",
        "sent",
        "stale_due",
        "wire",
        "writer",
    )

    def __init__(
        self,
        entry: Entry,
        address: str,
        send: Send,
        *,
        wire: Wire | None = None,
        retry_ms: int,
        ends_at: float,
        beat_at: float,
    ) -> None:
        self.entry = entry
        self.address = address
        self._send = send
        self.wire = wire
        self._greeting: bytes | None = b"retry: %d\n\n" % retry_ms
        self._handler: asyncio.Task[Any] | None = None
        self.ends_at, self.beat_at = ends_at, beat_at
        self.is_open = self.has_parted = False
        self.frame_due = self.stale_due = self.beat_due = False
        self.bye: bytes | None = None
        self.sent: bytes | None = None
        self.writer: asyncio.Task[None] | None = None
        self.busy_since = 0.0
        self.cause: str | None = None
        """Why it has ended; None while it has not."""

    def next_bytes(self) -> bytes | None:
        """Return all that has to be said now, once; None where that is nothing."""
        if self.has_parted:
            return None
        said = self._greeting or b""
        self._greeting = None
        frame = self.entry.frame
        if self.frame_due and frame is not None and frame is not self.sent:
            said, self.sent = said + frame if said else frame, frame
        if self.stale_due:
            said += STALE
            self.sent = None  # whatever it was, it is said again when the feed is live
        if self.beat_due:
            said += BEAT
        if self.bye is not None:
            said += self.bye
            self.has_parted = True
        self.frame_due = self.stale_due = self.beat_due = False
        return said or None

    def write_now(self, body: bytes) -> bool:
        """Hand bytes to the connection itself; return False where only `write` can."""
        return self.wire is not None and not self.has_parted and self.wire.write_now(body)

    async def write(self, body: bytes) -> None:
        """Hand bytes to the server; waits where the client takes nothing."""
        await self._send({"type": "http.response.body", "body": body, "more_body": not self.has_parted})

    async def until_gone(self, receive: Receive) -> None:
        """Wait until the client has gone, or the stream was ended from here."""
        task = self._handler = asyncio.current_task()
        assert task is not None
        try:
            while self.cause is None:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.end("gone")
        except asyncio.CancelledError:
            if self.cause is None or task.uncancel() > 0:
                raise
        finally:
            self._handler = None

    def end(self, cause: str) -> None:
        """End it: whoever waits in `until_gone` returns. `cause` is counted."""
        if self.cause is not None:
            return
        self.cause = cause
        if self._handler is not None and self._handler is not asyncio.current_task():
            self._handler.cancel()
        self._handler = None
