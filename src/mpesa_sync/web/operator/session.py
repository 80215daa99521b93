"""Who is let into the pages for operators."""

from __future__ import annotations

from typing import Any

from litestar import Request

from mpesa_sync.errors import NotAllowed
from mpesa_sync.identity.sessions import Session
from mpesa_sync.web.operator_texts import text
from mpesa_sync.web.staff import session as staff


async def operator_of(request: Request[Any, Any, Any]) -> Session | None:
    """Return the session of an operator, None where nobody is signed in.

    Raises:
        NotAllowed: somebody else is.
    """
    session = await staff.session_of(request)
    if session is not None and not session.person.is_operator:
        raise NotAllowed(text("only_operators"))
    return session
