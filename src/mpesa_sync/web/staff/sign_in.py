"""/staff/sign-in and /staff/sign-out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromQuery
from litestar.response import Redirect

from mpesa_sync.errors import DatabaseFault, SignInRefused, TooManyAttempts
from mpesa_sync.identity import sessions, sign_in
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.secret import Secret
from mpesa_sync.web import auth, context, views
from mpesa_sync.web.body import form_fields
from mpesa_sync.web.staff import session as staff

_log: Final = logs.get("web")


@get(staff.SIGN_IN, include_in_schema=False)
async def show(request: Request[Any, Any, Any], to: FromQuery[str] = "") -> Response[Any]:
    """Return the sign-in page; who is signed in already goes on."""
    if await staff.session_of(request) is not None:
        return Redirect(staff.own_path(to), status_code=staff.SEE_OTHER)
    return staff.page("sign_in.html", views.SignInView(to=staff.own_path(to)))


@post(staff.SIGN_IN, include_in_schema=False)
async def submit(request: Request[Any, Any, Any]) -> Response[Any]:
    """Sign in: a new session in a cookie, whatever cookie was sent."""
    auth.require_own_page(request)
    fields = await form_fields(request)
    name, to = fields.get("name", ""), staff.own_path(fields.get("to", ""))
    password = Secret(fields.get("password", ""))
    found, address = context.of(request), context.client_address(request)
    try:
        session = await sign_in.sign_in(found.database, name, password, address)
    except TooManyAttempts as error:
        _log.warning(Event.SIGN_IN_REFUSED, cause=error.code, address=address)
        view = views.sign_in_wait(name, error.retry_after_s, to=to)
        answer = staff.page("sign_in.html", view, HTTPStatus.TOO_MANY_REQUESTS)
        answer.headers["retry-after"] = str(error.retry_after_s)
        return answer
    except SignInRefused as error:
        _log.info(Event.SIGN_IN_REFUSED, cause=error.code, address=address)  # no name: it may be a password
        return staff.page("sign_in.html", views.sign_in_refused(name, to=to), HTTPStatus.UNAUTHORIZED)
    except DatabaseFault:
        return staff.page("sign_in.html", views.sign_in_failed(name, to=to), HTTPStatus.SERVICE_UNAVAILABLE)
    before = await staff.session_of(request)
    if before is not None:
        await sessions.end(found.database, before.token)
    answer = Redirect(to, status_code=staff.SEE_OTHER)
    answer.set_cookie(auth.session_cookie(request, session))
    return answer


@post("/staff/sign-out", include_in_schema=False)
async def leave(request: Request[Any, Any, Any]) -> Response[Any]:
    """End the session, here and on the server."""
    session = await staff.session_of(request)
    if session is not None:
        auth.require_csrf(request, session, (await form_fields(request)).get(auth.CSRF_FIELD))
        await sessions.end(context.of(request).database, session.token)
    answer = Redirect(staff.SIGN_IN, status_code=staff.SEE_OTHER)
    answer.set_cookie(auth.no_session_cookie(request))
    return answer
