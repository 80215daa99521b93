"""Who asks, over HTTP: the session's cookie or a bearer token, and whether a form was sent by our own page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from litestar import Request
from litestar.datastructures import Cookie

from mpesa_sync.db.patience import once_more
from mpesa_sync.errors import NotAllowed, NotSignedIn
from mpesa_sync.identity import sessions
from mpesa_sync.identity.people import Person
from mpesa_sync.identity.sessions import Session
from mpesa_sync.secret import Secret
from mpesa_sync.web import context
from mpesa_sync.web.cors import is_own

COOKIE: Final = "mpesa_sync_session"
_HOST: Final = "__Host-"
HTTPS_COOKIE: Final = f"{_HOST}{COOKIE}"
CSRF_HEADER: Final = "x-csrf-token"
CSRF_FIELD: Final = "csrf"
_NOT_SIGNED_IN: Final = "Not signed in"


class ForgedRequest(NotAllowed):
    """A request that changes something did not come from our own page of this session."""

    code = "forged_request"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A person, and the session where it is one; with a bearer token there is none."""

    person: Person
    session: Session | None


async def signed_in(request: Request[Any, Any, Any]) -> SignedIn:
    """Return who asks. A bearer token counts before a cookie.

    Raises:
        NotSignedIn: nobody, or what was sent is not good (any more).
    """
    found = context.of(request)
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or found.tokens is None:
            raise NotSignedIn(_NOT_SIGNED_IN)
        tokens, secret = found.tokens, Secret(token.strip())
        return SignedIn(await once_more(lambda: tokens.person_of(found.database, secret)), None)
    session = await session_of(request)
    if session is None:
        raise NotSignedIn(_NOT_SIGNED_IN)
    return SignedIn(session.person, session)


async def session_of(request: Request[Any, Any, Any]) -> Session | None:
    """Return the session of the cookie, None where there is none or it is over."""
    token = request.cookies.get(cookie_name(request))
    if not token:
        return None
    return await once_more(lambda: sessions.find(context.of(request).database, Secret(token)))


def require_own_page(request: Request[Any, Any, Any]) -> None:
    """Refuse what another site makes a browser send: by Sec-Fetch-Site, else by Origin.

    Raises:
        ForgedRequest: it comes from another site.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign = site not in (None, "same-origin", "none") or (
        origin is not None and not is_own(origin, request.headers.get("host", ""))
    )
    if foreign:
        raise ForgedRequest("This was not sent by our own page. Open the page again and repeat it there.")


def require_csrf(request: Request[Any, Any, Any], session: Session, posted: str | None) -> None:
    """Refuse a change whose CSRF token is not that of this very session.

    Raises:
        ForgedRequest: it is missing, or another session's.
    """
    require_own_page(request)
    if not posted or not sessions.csrf_matches(session, posted):
        raise ForgedRequest("This page is out of date or was not ours. Open it again and repeat the change.")


def cookie_name(request: Request[Any, Any, Any]) -> str:
    """Return the name of the session's cookie. Under https browsers take it from this very host alone, and Secure."""
    return f"{_HOST}{COOKIE}" if request.url.scheme == "https" else COOKIE


def session_cookie(request: Request[Any, Any, Any], session: Session) -> Cookie:
    """Return the cookie of a new session: out of reach for scripts, and not sent along from other sites."""
    return Cookie(
        cookie_name(request),
        value=session.token.reveal(),
        path="/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def no_session_cookie(request: Request[Any, Any, Any]) -> Cookie:
    """Return what makes a browser forget the session's cookie: with all that it was set with, else it would be kept."""
    return Cookie(
        cookie_name(request),
        value="",
        expires=0,
        max_age=0,
        path="/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
