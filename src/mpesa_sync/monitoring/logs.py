"""Structured logs on stderr, JSON or console, with what must never be read taken out."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog

from mpesa_sync.secret import Secret

_ROOT: Final = "mpesa_sync"
logging.getLogger(_ROOT).addHandler(logging.NullHandler())  # a library is silent until its program listens
_HIDDEN: Final = "***"
_SENSITIVE_NAMES: Final = re.compile(
    r"secret|passkey|password|token|authorization|cookie|consumer_key|kms_key|security_credential",
    re.IGNORECASE,
)
_URL_PASSWORD: Final = re.compile(r"(\w+://[^:/@\s]*:)\S*(?=@)|([?&](?:ssl)?password=)[^&\s]*", re.IGNORECASE)


def get(name: str) -> Any:
    """Return the logger of the part called `name`: the standard library's `mpesa_sync.<name>`, structured.

    Unless `configure` is called, events go where the embedding program sends its own logs, and nowhere else.
    """
    return structlog.wrap_logger(
        logging.getLogger(f"{_ROOT}.{name}"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def configure(*, form: Literal["json", "console"] = "console", level: int = logging.INFO) -> None:
    """Send our log events to stderr, for programs of our own.

    Arguments:
        form: `json`, one object a line; `console`, for a person.
        level: the lowest level of `logging` that is written.
    """
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                renderer,
            ]
        )
    )
    root = logging.getLogger(_ROOT)
    root.handlers = [handler]
    root.setLevel(level)
    root.propagate = False


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace secrets by `***`: `Secret` values, fields named like one, passwords inside URLs."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: Any) -> Any:
    if _SENSITIVE_NAMES.search(key) or isinstance(value, Secret | bytes | bytearray | memoryview):
        return _HIDDEN
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1\2{_HIDDEN}", value)
    if isinstance(value, dict):
        return {inner: _redacted(str(inner), part) for inner, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(key, part) for part in value]
    return value
