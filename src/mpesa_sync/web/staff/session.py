"""What every staff page does first: who is signed in, else the way to the sign-in page; and answers as pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from litestar import MediaType, Request, Response
from litestar.response import Redirect

from mpesa_sync.identity.sessions import Session
from mpesa_sync.web import auth, pages, views
from mpesa_sync.web.body import form_fields

SIGN_IN: Final = "/staff/sign-in"
VENUES: Final = "/staff"
OPERATORS: Final = "/operator"
SEE_OTHER: Final = 303


async def session_of(request: Request[Any, Any, Any]) -> Session | None:
    """Return the session of who looks at a page; pages are for sessions only, tokens are for programs."""
    return await auth.session_of(request)


async def fields_of(request: Request[Any, Any, Any], session: Session | None) -> dict[str, str]:
    """Return the fields of a posted form, which a page of this session must have sent.

    Arguments:
        session: of who posts; None where nobody is signed in: then it is read and not judged.
    Raises:
        MalformedBody, BodyTooLarge, BodyTooSlow: it cannot be read.
        ForgedRequest: it was not sent by our own page of this session.
    """
    fields = await form_fields(request)
    if session is not None:
        auth.require_csrf(request, session, fields.get(auth.CSRF_FIELD))
    return fields


def to_sign_in(request: Request[Any, Any, Any]) -> Redirect:
    """Return the way to the sign-in page, and back here after it."""
    back = request.url.path if request.method == "GET" else VENUES
    return Redirect(f"{SIGN_IN}?to={quote(back, safe='/')}", status_code=SEE_OTHER)


def own_path(path: str) -> str:
    """Return `path` where it is a page of ours for staff or operators, else the list of venues: never another site."""
    ours = path in (VENUES, OPERATORS) or path.startswith((f"{VENUES}/", f"{OPERATORS}/"))
    plain = ours and path.isascii() and path.isprintable()
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
