"""What every staff page does first: who is signed in, else the way to the sign-in page; and answers as pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from litestar import MediaType, Request, Response
from litestar.response import Redirect

from mpesa_sync.identity.sessions import Session
from mpesa_sync.web import auth, pages, views

SIGN_IN: Final = "/staff/sign-in"
VENUES: Final = "/staff"
SEE_OTHER: Final = 303


async def session_of(request: Request[Any, Any, Any]) -> Session | None:
    """Return the session of who looks at a page; pages are for sessions only, tokens are for programs."""
    return await auth.session_of(request)


def to_sign_in(request: Request[Any, Any, Any]) -> Redirect:
    """Return the way to the sign-in page, and back here after it."""
    back = request.url.path if request.method == "GET" else VENUES
    return Redirect(f"{SIGN_IN}?to={quote(back, safe='/')}", status_code=SEE_OTHER)


def own_path(path: str) -> str:
    """Return `path` where it is one of our staff pages, else the list of venues: nobody is sent to other sites."""
    plain = (path == VENUES or path.startswith(f"{VENUES}/")) and path.isascii() and path.isprintable()
    if not plain or any(part in path for part in ("//", "\\", "..", "?", "#", ":")):
        return VENUES
    return path


def page(template: str, view: object, status: HTTPStatus = HTTPStatus.OK) -> Response[str]:
    """Return a page that no browser keeps."""
    return Response(
        pages.render(template, view=view),
        status_code=status,
        media_type=MediaType.HTML,
        headers={"cache-control": "no-store"},
    )


def signed_in(session: Session) -> views.SignedIn:
    """Return what every staff page shows of the person."""
    return views.SignedIn(name=session.person.name, csrf=session.csrf)
