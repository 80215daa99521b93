"""What one connection of the HTTP server may take: the head of a request is bounded, and streams keep no buffer."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mpesa_sync.web.streams import WIRE

MAX_HEAD: Final = 65_536
"""Bytes of a request's line and headers. What one read brings may be more than that by as much as it is."""
HEAD_S: Final = 10.0
"""How long a connection may be without a whole head of its first request, or take for one that it began."""
_STREAMS: Final = "/events"
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """Uvicorn's, with bounds.

    On streams, `send` waits as soon as a client does not read: no frames pile up in this process (live.md).
    """

    _taken = 0
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as Uvicorn declares it
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Take the write buffer from a stream; the application's task starts only after this."""
        self._stop_waiting()
        super().on_headers_complete()
        if self.scope["path"].endswith(_STREAMS):
            self.transport.set_write_buffer_limits(high=0)
            extensions: Any = self.scope.setdefault("extensions", {})
            extensions[WIRE] = self

    def write_now(self, body: bytes) -> bool:
        """Write a part of a stream, as `send` would; return False, and write nothing, where that would wait or is over.

        Only between the beginning of the answer and its end. Behind a pipelined request `cycle` is that one's, which
        has not begun: False.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if self.flow.write_paused or cycle is None or cycle.disconnected or not cycle.chunked_encoding:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def abort(self) -> None:
        """Cut the connection, whatever still waits in it."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take in what came; end the connection where it is a head without end."""
        super().data_received(data)
        if self._due is None or self.transport.is_closing():
            return
        self._taken += len(data)
        if self._taken > MAX_HEAD:
            cycle: RequestResponseCycle | None = self.cycle
            if cycle is None or cycle.response_complete:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _await_head(self) -> None:
        self._stop_waiting()
        self._taken = 0
        self._due = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
