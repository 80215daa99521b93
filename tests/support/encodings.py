"""Looking for a secret in what was said, in the five ways that it may stand there."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

SHORTEST: Final = 6
"""Shorter texts stand everywhere by chance."""


def encoded(secret: str) -> dict[str, set[str]]:
    """Return a secret as it stands plain, in base64, hex, a URL and JSON; base64 at each place in three bytes too."""
    raw = secret.encode("utf-8", "surrogatepass")
    whole = {base64.b64encode(raw), base64.urlsafe_b64encode(raw)}
    shifted = {base64.b64encode(b"\0" * n + raw)[4 * n // 3 + 1 :][: len(raw) * 4 // 3 - 3] for n in (1, 2)}
    url = quote(raw, safe="")
    return {
        "plain": {secret},
        "base64": {text.rstrip(b"=").decode() for text in whole | shifted if len(text) >= SHORTEST},
        "hex": {raw.hex(), raw.hex().upper()},
        "url": {url, url.lower(), quote(raw)},
        "json": {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]},
    }


def traces(secrets: Iterable[str], said: str) -> list[tuple[int, str]]:
    """Return which secrets, by their place, stand in a text, and in which encoding: never the secret itself."""
    return [
        (place, name)
        for place, secret in enumerate(secrets)
        if len(secret) >= SHORTEST
        for name, texts in encoded(secret).items()
        if any(text in said for text in texts)
    ]
