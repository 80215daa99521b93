"""Sends messages in a process of its own: `python -P sending.py`, which reads one a line and answers each with a word.

The libraries read whatever a channel answers to its end and into memory. Here that fills a process with a limit, which
has no environment of ours, and nothing else to lose. It is a script, without the rest of the package: that would cost
another half second and 30 MB.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import types
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

TAKEN: Final = "taken"
REFUSED: Final = "refused"
UNREADABLE: Final = "unreadable"
MEMORY_LIMIT_BYTES: Final = 512 * 1024 * 1024
"""Of addresses, not of pages in use: Python with Apprise takes about 150 MB of it."""


def main() -> None:
    """Send what is read, until nothing more can come or somebody kills this process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a stop is for the parent, which lets a message end first
        signal.signal(number, signal.SIG_IGN)
    _limit_memory()
    logging.disable(logging.CRITICAL)
    answers = _only_for_answers()
    _import_without_package()
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    while True:
        os.write(answers, f"{_send(json.loads(messages.get()))}\n".encode())


def _read(messages: SimpleQueue[bytes]) -> None:
    """Hand on what is read; end the process once the parent is gone, also in the middle of a message."""
    for line in sys.stdin.buffer:
        messages.put(line)
    os._exit(0)


def _limit_memory() -> None:
    """Have requests for memory above the limit fail, and no core written that would hold a URL."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on every platform
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY_LIMIT_BYTES if hard == resource.RLIM_INFINITY else min(hard, MEMORY_LIMIT_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _only_for_answers() -> int:
    """Return a way to the parent that nothing else writes to: what libraries print goes nowhere."""
    kept = os.dup(sys.stdout.fileno())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return kept


def _import_without_package() -> None:
    """Put bare packages in the place of ours, so that their `__init__` is not run."""
    root = Path(__file__).resolve().parents[1]
    for name, folder in (("mpesa_sync", root), ("mpesa_sync.sync", root / "sync")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def _send(message: Any) -> str:
    """Send over a channel, for as long as it takes; whatever happens, nothing is raised.

    Arguments:
        message: `url`, `title`, `body`, and whether it `is_over`, what it is about.
    """
    try:
        from apprise import Apprise, NotifyFormat, NotifyType

        from mpesa_sync.errors import InvalidInput
        from mpesa_sync.secret import Secret
        from mpesa_sync.sync import channel_urls

        messenger = Apprise(asset=channel_urls.asset())
        try:
            messenger.add(channel_urls.service(Secret(message["url"])))
        except InvalidInput:
            return UNREADABLE
        taken = messenger.notify(
            title=message["title"],
            body=message["body"],
            body_format=NotifyFormat.TEXT,
            notify_type=NotifyType.SUCCESS if message["is_over"] else NotifyType.FAILURE,
        )
    except Exception:  # noqa: BLE001 - whatever a hundred services raise, and a want of memory
        return REFUSED
    return TAKEN if taken else REFUSED


if __name__ == "__main__":
    main()
