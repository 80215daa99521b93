"""The query of an address: a parameter that nobody reads, or that is there twice, is refused and not ignored."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

from litestar import Request

from mpesa_sync.errors import InvalidInput

_NAME: Final = re.compile("[A-Za-z0-9_.-]{1,40}")


def require_known(request: Request[Any, Any, Any], *known: str) -> None:
    """Let a request pass whose query holds known parameters only, each once: else a list would show too much.

    Arguments:
        known: the names of the parameters that this address takes.
    Raises:
        InvalidInput: it names the parameter; "query" where its name is not fit to be repeated.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in counts.items():
        if name not in known:
            field = name if _NAME.fullmatch(name) else "query"
            raise InvalidInput(field, f"is no parameter of this address, which takes {', '.join(known)}")
        if count > 1:
            raise InvalidInput(name, f"is there {count} times: give it once")
