"""A channel of the demo's own: a small HTTP server on this machine that keeps the messages it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from mpesa_sync.secret import Secret

_HOST: Final = "127.0.0.1"
_WAIT_S: Final = 20.0
_LONGEST: Final = 65_536


@dataclass(slots=True)
class Mailbox:
    """Takes messages as Apprise's `json://` sends them. `messages`: each with its `title` and its `message`.

    `show` is called with each as it comes.
    """

    messages: list[Mapping[str, str]] = field(default_factory=list)
    show: Callable[[Mapping[str, str]], None] = lambda _message: None
    _server: asyncio.Server | None = None
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, _HOST, 0)
        return self

    async def __aexit__(self, *_ended: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> Secret:
        """Return the URL of this channel, as Apprise writes it."""
        assert self._server is not None
        return Secret(f"json://{_HOST}:{self._server.sockets[0].getsockname()[1]}/")

    def about(self, title: str) -> list[Mapping[str, str]]:
        """Return the messages with this in their title, in the order in which they came."""
        return [message for message in self.messages if title in message["title"]]

    async def take(self, title: str) -> Mapping[str, str]:
        """Return the first message with this in its title, waiting for it.

        Raises:
            TimeoutError: it does not come.
        """
        async with asyncio.timeout(_WAIT_S), self._came:
            await self._came.wait_for(lambda: self.about(title))
        return self.about(title)[0]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
            message: dict[str, Any] = json.loads(await reader.readexactly(min(length, _LONGEST)))
            async with self._came:
                self.messages.append({name: str(message[name]) for name in ("title", "message")})
                self._came.notify_all()
            self.show(self.messages[-1])
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        except (OSError, ValueError, KeyError, StopIteration, asyncio.IncompleteReadError):
            return  # not a message: whoever sent it is told by the end of the connection
        finally:
            writer.close()
