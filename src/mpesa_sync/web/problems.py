"""Errors as `application/problem+json` for programs and as a page for people. Never a database text, never a secret."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException

from mpesa_sync.domain.credentials import FieldError
from mpesa_sync.errors import (
    BarNotFound,
    InvalidInput,
    InvalidSettings,
    MpesaSyncError,
    OutcomeUnknown,
    TooManyAttempts,
    TransientFault,
)
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.refusals import IdempotencyKeyInFlight, StaleForm
from mpesa_sync.web import form_view, pages, views
from mpesa_sync.web.texts import text as words

_log: Final = logs.get("web")
PROBLEM_JSON: Final = "application/problem+json"
OPERATION: Final = "operation_id"
"""In a request's state: the operation that a failing request was about."""
UNKNOWN: Final = "unknown"
"""The outcome of a request that may have been saved."""
_UNEXPECTED: Final = "Something unexpected happened. Nothing is known to be wrong with what you sent."
_BUSY: Final = "This cannot be done just now, and nothing was changed. Try again in a moment."
"""Whoever asks is no operator: where the database listens is nothing to them."""
KEY_HEADER: Final = "idempotency-key"
_WORDS: Final = {
    400: ("malformed_request", "The request cannot be read."),
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This address does not answer to this method."),
    413: ("body_too_large", "The request is too large."),
    415: ("unsupported_media_type", "Send application/json."),
}
_GENERAL: Final = frozenset({"unexpected", BarNotFound.code, *(code for code, _ in _WORDS.values())})
"""Codes whose text says less than the page's own."""


class FieldProblem(msgspec.Struct, frozen=True):
    """One wrong field."""

    field: str
    code: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The error document (spec R4).

    `error` is the text, `code` its stable name. `retryable`: whether the same request may succeed later.
    `outcome`: `failed`, nothing was written; `unknown`, ask for the operation before repeating it, at `status_url`.
    `changed_by` and `changed_at`: who changed what a form had shown, and when, as far as it is known.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    error: str
    code: str
    retryable: bool = False
    operation_id: UUID | None = None
    outcome: str = "failed"
    status_url: str | msgspec.UnsetType = msgspec.UNSET
    changed_by: str | msgspec.UnsetType = msgspec.UNSET
    changed_at: datetime | msgspec.UnsetType | None = msgspec.UNSET
    details: list[str] = []
    errors: list[FieldProblem] = []


def encoded(status: int, code: str, text: str, *, retryable: bool = False) -> bytes:
    """Return a document for what is answered before the framework."""
    title = HTTPStatus(status).phrase
    return msgspec.json.encode(
        Problem(title=title, status=status, detail=text, error=text, code=code, retryable=retryable)
    )


def problem_of(error: MpesaSyncError, operation_id: UUID | None = None) -> Problem:
    """Return the document for one of our errors."""
    fields = _fields(error)
    text = _BUSY if isinstance(error, TransientFault) and error.is_away else error.message
    if isinstance(error, InvalidInput) and error.field == "barId":
        text = "Bar ID is required"
    if isinstance(error, StaleForm):
        text = form_view.stale(error)
    is_unknown = isinstance(error, OutcomeUnknown | IdempotencyKeyInFlight)
    if isinstance(error, IdempotencyKeyInFlight):
        operation_id = error.operation_id
    return Problem(
        title=HTTPStatus(error.http_status).phrase,
        status=error.http_status,
        detail=text,
        error=text,
        code=error.reason if isinstance(error, InvalidSettings) else error.code,
        retryable=error.retryable or isinstance(error, TooManyAttempts),
        operation_id=operation_id,
        outcome=UNKNOWN if is_unknown else "failed",
        status_url=status_url(operation_id) if is_unknown and operation_id else msgspec.UNSET,
        changed_by=form_view.who(error.changed_by or "") if isinstance(error, StaleForm) else msgspec.UNSET,
        changed_at=error.changed_at if isinstance(error, StaleForm) else msgspec.UNSET,
        details=[field.detail for field in fields],
        errors=[FieldProblem(field.field, field.code, field.message) for field in fields],
    )


def _fields(error: MpesaSyncError) -> Sequence[FieldError]:
    if isinstance(error, InvalidSettings):
        return error.errors
    if isinstance(error, InvalidInput):
        return [FieldError(error.field, error.code, error.message.removeprefix(f"{error.field}: "))]
    return []


def on_our_error(request: Request[Any, Any, Any], error: MpesaSyncError) -> Response[Any]:
    """Answer one of our own errors."""
    problem = problem_of(error, request.state.get(OPERATION))
    if isinstance(error, OutcomeUnknown) and request.headers.get(KEY_HEADER):
        problem = msgspec.structs.replace(problem, retryable=True)  # under the same key the repeat settles it
    headers = {}
    if isinstance(error, TooManyAttempts):
        headers["retry-after"] = str(error.retry_after_s)
    elif error.retryable and error.http_status in (HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["retry-after"] = "1"
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return answer(request, problem, headers)


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer what the framework refuses, in our words: its own may echo what was sent."""
    status = error.status_code
    code, text = _WORDS.get(status, ("refused", HTTPStatus(status).phrase))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return on_unexpected(request, error)
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=text, error=text, code=code)
    headers = {key: _with_head(value) for key, value in (error.headers or {}).items() if key.lower() == "allow"}
    return answer(request, problem, headers)


def _with_head(methods: str) -> str:
    """Return the methods of `Allow` with HEAD beside GET: the routes do not know it, `web.heads` answers it."""
    named = [method.strip() for method in methods.split(",")]
    return ", ".join([*named, "HEAD"] if "GET" in named and "HEAD" not in named else named)


def on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer what nobody foresaw: its kind and place are logged, never its text, which may hold what was sent.

    A request that had an operation may have committed it: its outcome is unknown, and the operation tells.
    """
    _log.error(Event.REQUEST_FAILED, path=_route(request), error=type(error).__name__, where=_where(error))
    operation_id = request.state.get(OPERATION)
    problem = Problem(
        title="Internal Server Error",
        status=500,
        detail=_UNEXPECTED,
        error=_UNEXPECTED,
        code="unexpected",
        operation_id=operation_id,
        outcome="failed" if operation_id is None else UNKNOWN,
        status_url=msgspec.UNSET if operation_id is None else status_url(operation_id),
    )
    return answer(request, problem, {})


def answer(request: Request[Any, Any, Any], problem: Problem, headers: dict[str, str]) -> Response[Any]:
    """Return a problem as JSON, or as a page where a person looks."""
    if wants_page(request):
        message = problem.detail if problem.code not in _GENERAL else ""
        is_ours = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR  # a refusal has nothing that support could look up
        view = views.problem(
            problem.status,
            message=words("problem.unknown") if problem.outcome == UNKNOWN else message,
            here=request.url.path if request.method == "GET" else "",
            customer=not request.url.path.startswith(("/staff", "/operator", "/runbook")),
            reference=str(problem.operation_id or "") if is_ours else "",
        )
        return Response(
            pages.render("problem.html", view=view),
            status_code=problem.status,
            media_type=MediaType.HTML,
            headers={**headers, "cache-control": "no-store"},
        )
    more = {"cache-control": "no-store"}
    if isinstance(problem.status_url, str):
        more["location"] = problem.status_url
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers={**headers, **more},
    )


def status_url(operation_id: UUID) -> str:
    """Return where an operation tells what became of it."""
    return f"/api/operations/{operation_id}"


def wants_page(request: Request[Any, Any, Any]) -> bool:
    """Return whether a person in a browser asks: never below /api/, and only where HTML is accepted."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def _route(request: Request[Any, Any, Any]) -> str:
    """Return the template of the path, which holds nothing that was sent."""
    return str(request.scope.get("path_template") or "unknown")


def _where(error: BaseException) -> str:
    """Return file and line of the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""
