"""The operators' channels by name, and sending over one: in a thread that nobody waits for longer than the limit."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mpesa_sync.errors import ConfigurationError, InvalidInput
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.secret import Secret
from mpesa_sync.settings import ALERT_URLS
from mpesa_sync.sync import channel_urls

_log: Final = logs.get("jobs")
_TALKATIVE: Final = ("apprise", "urllib3", "requests", "paho", "slixmpp")
"""Loggers of libraries that write hosts, paths and answers, which are parts of a channel's secret."""
REFUSED: Final = "refused"
TIMED_OUT: Final = "timed_out"
STILL_HANGING: Final = "still_hanging"
CHANNEL_GONE: Final = "channel_gone"
UNREADABLE: Final = "unreadable"
VENUE_GONE: Final = "venue_gone"
SEND_LIMIT_S: Final = 15.0


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
    found: dict[str, Secret] = {}
    silence()
    for position, url in enumerate(urls, start=1):
        try:
            channel_urls.service(url)
        except InvalidInput as error:
            faults.append(f"{ALERT_URLS}, URL {position} of {len(urls)}, {error.message.partition(': ')[2]}")
            continue
        names = (channel_urls.name_of(url, salt, digits=digits) for digits in range(4, 65))
        found[next(name for name in names if found.get(name, url) == url)] = url
    if faults:
        raise ConfigurationError(faults)
    return found


class Sender:
    """Sends messages, one at a time over each channel.

    A message that takes too long is left behind in its thread, which ends with the program at the latest; until then
    nothing more goes over this channel, so that a channel that hangs costs one thread.

    Arguments:
        limit_s: how long one message may take, in seconds.
    """

    def __init__(self, limit_s: float = SEND_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._running: dict[str, threading.Thread] = {}
        self._waiting: set[asyncio.Future[str | None]] = set()
        self.is_closed = False

    async def send(self, channel: str, url: Secret, message: Message) -> str | None:
        """Send a message; return None once the channel has taken it, else what is wrong, as a word.

        Arguments:
            channel: its name, of which one message is under way at most.
        """
        earlier = self._running.get(channel)
        if earlier is not None and earlier.is_alive():
            return STILL_HANGING
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str | None] = loop.create_future()

        def work() -> None:
            said = _deliver(channel, url, message)
            try:
                loop.call_soon_threadsafe(_answer, answer, said)
            except RuntimeError:  # the program has ended meanwhile
                return

        thread = threading.Thread(target=work, name=f"alert {channel}", daemon=True)
        self._running[channel] = thread
        self._waiting.add(answer)
        thread.start()
        try:
            async with asyncio.timeout(self._limit_s):
                said = await answer
        except TimeoutError:
            return TIMED_OUT
        finally:
            self._waiting.discard(answer)
        del self._running[channel]
        return said

    def close(self) -> None:
        """Wait for no answer any more: whoever waits in `send` gets `timed_out`, and `is_closed` is true."""
        self.is_closed = True
        for answer in self._waiting:
            _answer(answer, TIMED_OUT)


async def send(url: Secret, title: str, body: str, *, limit_s: float = SEND_LIMIT_S) -> str | None:
    """Send one message over a channel now; return None once it has taken it, else what is wrong, as a word."""
    silence()
    return await Sender(limit_s).send("test", url, Message(title, body, is_over=True))


def silence() -> None:
    """Keep from every log of this process what the libraries that send say about a channel."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False


def _answer(answer: asyncio.Future[str | None], said: str | None) -> None:
    if not answer.done():
        answer.set_result(said)


def _deliver(channel: str, url: Secret, message: Message) -> str | None:
    """Send in this thread, for as long as it takes; whatever happens, nothing is raised."""
    try:
        from apprise import Apprise, NotifyFormat, NotifyType

        messenger = Apprise(asset=channel_urls.asset())
        messenger.add(channel_urls.service(url))
        taken: Any = messenger.notify(
            title=message.title,
            body=message.body,
            body_format=NotifyFormat.TEXT,
            notify_type=NotifyType.SUCCESS if message.is_over else NotifyType.FAILURE,
        )
    except InvalidInput:
        return UNREADABLE
    except Exception as exc:  # noqa: BLE001 - whatever a hundred services raise; its text may hold the URL
        _log.warning(Event.ALERT_DELIVERY_FAILED, channel=channel, error=type(exc).__name__)
        return REFUSED
    return None if taken else REFUSED
