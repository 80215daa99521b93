"""Bodies of requests, read with bounds: a JSON object without doubled names, or the fields of a form."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import parse_qsl

from litestar import Request
from litestar.exceptions import HTTPException, InternalServerException

from mpesa_sync.errors import SyncRefused

MAX_BYTES: Final = 65_536
_READ_TIMEOUT_S: Final = 10.0
_MAX_FIELDS: Final = 50


class MalformedBody(SyncRefused):
    """The body is not what it should be. Says nothing of its content."""

    code = "malformed_body"


class BodyTooLarge(MalformedBody):
    """More bytes than any form of ours has."""

    code = "body_too_large"
    http_status = 413


class BodyTooSlow(MalformedBody):
    """It did not arrive within `_READ_TIMEOUT_S`."""

    code = "body_too_slow"
    http_status = 408


async def json_object(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Return the JSON object that a request holds.

    Raises:
        MalformedBody: it is not JSON in UTF-8, not an object, or has a name twice.
        BodyTooLarge: it has more than `MAX_BYTES`.
        BodyTooSlow: it did not arrive in time.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise MalformedBody("Send the body as application/json.")
    raw = await _read(request)
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # its text would echo what was sent
        raise MalformedBody("The body is not a JSON object in UTF-8, or has a name twice.") from None
    if not isinstance(value, dict):
        raise MalformedBody("The body must be a JSON object.")
    return value


async def form_fields(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the fields of a posted form.

    Raises:
        MalformedBody: it is not a form, or has a field twice.
        BodyTooLarge: it has more than `MAX_BYTES`.
        BodyTooSlow: it did not arrive in time.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise MalformedBody("Send the form as application/x-www-form-urlencoded.")
    raw = await _read(request)
    try:
        pairs = parse_qsl(
            raw.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
        return _unique(pairs)
    except ValueError:
        raise MalformedBody("The form cannot be read, or has a field twice.") from None


async def _read(request: Request[Any, Any, Any]) -> bytes:
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            raw = await request.body()
    except TimeoutError:
        raise BodyTooSlow("The body did not arrive in time.") from None
    except InternalServerException:  # the framework's word for a client that has gone: nobody's fault here
        raise MalformedBody("The connection ended before the whole body was there.") from None
    except HTTPException as exc:
        if exc.status_code == BodyTooLarge.http_status:
            raise BodyTooLarge(f"The body has more than {MAX_BYTES} bytes.") from None
        raise
    if len(raw) > MAX_BYTES:
        raise BodyTooLarge(f"The body has more than {MAX_BYTES} bytes.")
    return raw


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _no_constant(_name: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")
