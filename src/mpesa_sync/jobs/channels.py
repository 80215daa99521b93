"""The operators' channels by name, and sending over one: in a process with limits, for time and for memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mpesa_sync.errors import ConfigurationError, InvalidInput
from mpesa_sync.jobs import sending
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.secret import Secret
from mpesa_sync.settings import ALERT_URLS, environment_of
from mpesa_sync.sync import channel_urls

_log: Final = logs.get("jobs")
_TALKATIVE: Final = ("apprise", "urllib3", "requests", "paho", "slixmpp")
"""Loggers of libraries that write hosts, paths and answers, which are parts of a channel's secret."""
REFUSED: Final = sending.REFUSED
TIMED_OUT: Final = "timed_out"
CHANNEL_GONE: Final = "channel_gone"
UNREADABLE: Final = sending.UNREADABLE
VENUE_GONE: Final = "venue_gone"
SEND_LIMIT_S: Final = 15.0
_IDLE_S: Final = 120.0
_IDLE_AT_MOST: Final = 4
"""Processes that wait for messages: each takes some 40 MB, and there may be a channel for every venue."""
_VARIABLES: Final = (
    *("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONUSERBASE"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
"""Variables that a process needs to find its modules and the way out of the machine; none of ours, nor any other."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: plain text. `is_over`: it tells of an end, and not of trouble."""

    title: str
    body: str
    is_over: bool = False


def channels_of(urls: Sequence[Secret], salt: bytes) -> Mapping[str, Secret]:
    """Return the operators' channels by their short names; the same URL twice is one channel.

    Raises:
        ConfigurationError: names every URL that cannot be used, by its position.
    """
    faults: list[str] = []
    silence()
    for position, url in enumerate(urls, start=1):
        try:
            channel_urls.service(url)
        except InvalidInput as error:
            faults.append(f"{ALERT_URLS}, URL {position} of {len(urls)}, {error.message.partition(': ')[2]}")
    if faults:
        raise ConfigurationError(faults)
    return channel_urls.named(urls, salt)


class Sender:
    """Sends messages, one at a time over each channel, each in a process of its own (`sending`).

    A process whose message was not taken is killed, so that what filled or stopped it is gone. Of the others a few wait
    for the next message, and not for long.

    Arguments:
        limit_s: how long one message may take, in seconds; with the start of a process, about half a second.
    """

    def __init__(self, limit_s: float = SEND_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._locks: dict[str, asyncio.Lock] = {}
        self._idle: dict[str, _Child] = {}
        self._children: set[_Child] = set()
        self.is_closed = False

    async def send(self, channel: str, url: Secret, message: Message) -> str | None:
        """Send a message; return None once the channel has taken it, else what is wrong, as a word.

        Arguments:
            channel: its name, of which one message is under way at most.
        """
        content = {"url": url.reveal(), "title": message.title, "body": message.body, "is_over": message.is_over}
        try:
            async with asyncio.timeout(self._limit_s), self._locks.setdefault(channel, asyncio.Lock()):
                if self.is_closed:
                    return TIMED_OUT
                said = await self._ask(channel, json.dumps(content).encode() + b"\n")
        except TimeoutError:
            return TIMED_OUT
        return None if said == sending.TAKEN else said

    async def close(self) -> None:
        """Kill every process, and wait for their end: whoever waits in `send` gets `timed_out`."""
        self.is_closed = True
        self._idle.clear()
        for child in self._children:
            child.kill()
        while self._children:
            await asyncio.wait([child.ended for child in self._children])

    async def _ask(self, channel: str, line: bytes) -> str:
        """Return what a process says of a message; it is kept where the channel took it, else killed."""
        child = self._idle.pop(channel, None)
        said = None
        try:
            if child is None or child.ended.done():
                child = await self._started()
            said = await child.ask(line)
        except OSError as exc:
            _log.warning(Event.ALERT_DELIVERY_FAILED, channel=channel, error=type(exc).__name__)
        finally:
            if child is not None and (said != sending.TAKEN or self.is_closed):
                child.kill()
        if said == sending.TAKEN and child is not None and not self.is_closed:
            self._keep(channel, child)
        return said or (TIMED_OUT if self.is_closed else REFUSED)

    async def _started(self) -> _Child:
        child = _Child(self._children)
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: child,
                *command(),
                stderr=asyncio.subprocess.DEVNULL,
                env=environment_of(_VARIABLES),
                start_new_session=True,  # Ctrl-C is for this program, which lets a message end first
            )
        except BaseException:
            child.give_up()
            raise
        return child

    def _keep(self, channel: str, child: _Child) -> None:
        """Let a process wait for the channel's next message; where there are too many, the oldest wait ends."""
        self._idle[channel] = child
        child.kill_in(_IDLE_S)
        if len(self._idle) > _IDLE_AT_MOST:
            self._idle.pop(next(iter(self._idle))).kill()


class _Child(asyncio.SubprocessProtocol):
    """A process that sends. It is in `running` until it has ended and everything of it is closed."""

    def __init__(self, running: set[_Child]) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._answer: asyncio.Future[str | None] = loop.create_future()
        self._said = b""
        self._running = running
        running.add(self)
        self._transport: Any = None
        self._is_unwanted = False
        self._idle: asyncio.TimerHandle | None = None

    async def ask(self, line: bytes) -> str | None:
        """Return what it says of a message; None where it has ended instead."""
        if self._idle is not None:
            self._idle.cancel()
        self._said = b""
        self._answer = asyncio.get_running_loop().create_future()
        stdin = self._transport.get_pipe_transport(0)
        if self._is_unwanted or stdin.is_closing():
            return None
        stdin.write(line)
        return await self._answer

    def kill_in(self, seconds: float) -> None:
        """Kill it then, unless it is asked again before."""
        self._idle = asyncio.get_running_loop().call_later(seconds, self.kill)

    def kill(self) -> None:
        """Have it end now; `ended` says when it has."""
        self._is_unwanted = True
        if self._idle is not None:
            self._idle.cancel()
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()

    def give_up(self) -> None:
        """Have it end, or not begin: what was to start it has failed."""
        self.kill()
        if self._transport is None:
            self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: a process has been started."""
        self._transport = transport
        if self._is_unwanted:
            self.kill()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take what it says."""
        self._said += data
        if self._said.endswith(b"\n") and not self._answer.done():
            self._answer.set_result(self._said.decode().strip())

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Answer that no answer comes any more, where that is what was lost."""
        if fd == 1 and not self._answer.done():
            self._answer.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the process has ended, and so have its pipes."""
        self._transport.close()  # which says only that nobody has forgotten it
        self._end()

    def _end(self) -> None:
        self._running.discard(self)
        if not self._answer.done():
            self._answer.set_result(None)
        if not self.ended.done():
            self.ended.set_result(None)


def command() -> tuple[str, ...]:
    """Return what is run to send."""
    return sys.executable, "-P", sending.__file__  # else a `queue.py` beside it comes before the standard library


async def send(url: Secret, title: str, body: str, *, limit_s: float = SEND_LIMIT_S) -> str | None:
    """Send one message over a channel now; return None once it has taken it, else what is wrong, as a word."""
    sender = Sender(limit_s)
    try:
        return await sender.send("test", url, Message(title, body, is_over=True))
    finally:
        await sender.close()


def silence() -> None:
    """Keep from every log of this process what the libraries that send say about a channel."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
