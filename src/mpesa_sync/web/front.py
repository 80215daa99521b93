"""/: whoever types the bare address comes to the staff app, in the demo to the demo."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, get
from litestar.response import Redirect

from mpesa_sync.web.staff import session

KEY: Final = "front"
"""Where the application keeps the path that / leads to."""


@get("/", include_in_schema=False)
async def show(request: Request[Any, Any, Any]) -> Redirect:
    """Send on to where people begin."""
    return Redirect(request.app.state[KEY], status_code=session.SEE_OTHER)
