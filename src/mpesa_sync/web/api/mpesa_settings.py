"""POST and GET /api/mpesa-settings, with the field names and answers of the existing platform (R4, T2.1)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import msgspec
from litestar import Request, Response, get, post
from litestar.params import QueryParameter

from mpesa_sync.db import settings
from mpesa_sync.db.settings import StoredSettings
from mpesa_sync.domain.credentials import AccountType, Environment
from mpesa_sync.errors import BarNotFound, InvalidInput
from mpesa_sync.identity import membership
from mpesa_sync.secret import MASK
from mpesa_sync.sync import repeats
from mpesa_sync.sync.settings_service import SettingsSaved, Warned, require_bar_id
from mpesa_sync.web import context, problems
from mpesa_sync.web.api import idempotency, openapi, preconditions
from mpesa_sync.web.api.settings_body import change_of
from mpesa_sync.web.auth import CSRF_HEADER, SignedIn, require_csrf, signed_in
from mpesa_sync.web.body import json_object
from mpesa_sync.web.deadline import Deadline
from mpesa_sync.web.problems import OPERATION, Problem, problem_of

PATH: Final = "/api/mpesa-settings"


class SyncStatus(msgspec.Struct, frozen=True):
    """Both fields as read back inside the transaction (R4.3)."""

    credentials_updated: bool
    bar_status_updated: bool


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a save."""

    success: bool
    message: str
    sync_status: SyncStatus
    operation_id: UUID
    mpesa_enabled: bool
    mpesa_environment: str | None
    warnings: list[Warned]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored for a bar. A stored secret reads as the mask, an absent one as ""."""

    mpesa_enabled: bool
    mpesa_environment: str
    mpesa_business_shortcode: str
    mpesa_consumer_key: str
    mpesa_consumer_secret: str
    mpesa_passkey: str
    mpesa_setup_completed: bool
    mpesa_last_test_at: str | None
    mpesa_test_status: str
    has_credentials: bool
    mpesa_account_type: str
    mpesa_till_number: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a question."""

    success: bool
    settings: Settings


@post(
    PATH,
    status_code=200,
    summary="Save credentials and switch M-Pesa, in one transaction",
    operation_id="saveMpesaSettings",
    operation_class=openapi.SettingsOperation,
    security=openapi.SIGNED_IN,
    responses=openapi.failures(400, 401, 403, 404, 408, 409, 413, 422, 500, 503),
    response_headers=[openapi.REPLAYED],
)
async def save(request: Request[Any, Any, Any]) -> Response[Saved]:
    """Save credentials and switch M-Pesa, in one transaction with its audit entry."""
    found = context.of(request)
    deadline = Deadline(found.database.clock)
    body = await json_object(request)
    who = await signed_in(request)
    _require_csrf(request, who)
    if "barId" not in body:
        raise InvalidInput("barId", "is required")
    bar_id = require_bar_id(body["barId"])
    key, tags = idempotency.key_of(request), preconditions.expected(request)

    async def work(operation_id: UUID) -> Saved:
        request.state[OPERATION] = operation_id
        return _said(
            await found.settings_service.save(
                change_of(bar_id, body),
                who.person,
                operation_id=operation_id,
                origin=context.origin_of(request, who.person),
                unless_changed=tags,
                within_s=deadline.left_s(),
            )
        )

    if key is None:
        return Response(await work(uuid4()))
    asked = repeats.asked(found.database.keys, who.person, bar_id, key=key, body=body)
    answer = await repeats.answered_once(found.database, asked, work, problem_of)
    headers = idempotency.headers(replayed=answer.replayed)
    if answer.status != HTTPStatus.OK:
        return problems.answer(request, msgspec.json.decode(answer.body, type=Problem), headers)
    return Response(msgspec.json.decode(answer.body, type=Saved), headers=headers)


def _said(saved: SettingsSaved) -> Saved:
    return Saved(
        success=True,
        message="M-Pesa settings saved." if saved.changed else "Nothing had to be changed.",
        sync_status=SyncStatus(saved.credentials_updated, saved.bar_status_updated),
        operation_id=saved.operation_id,
        mpesa_enabled=saved.enabled,
        mpesa_environment=saved.environment,
        warnings=list(saved.warnings),
    )


@get(
    PATH,
    summary="What is stored for a bar, without its secrets",
    operation_id="getMpesaSettings",
    security=openapi.SIGNED_IN,
    responses=openapi.failures(400, 401, 404, 500, 503),
    response_headers=[openapi.ETAG],
)
async def read(
    request: Request[Any, Any, Any],
    bar_id: Annotated[str | None, QueryParameter(name="barId", required=False, description="The bar.")] = None,
) -> Response[Found]:
    """Return what is stored for a bar. Secrets read as the mask.

    The `ETag` changes with the switch and the credentials; not with `mpesa_setup_completed`, `mpesa_last_test_at` and
    `mpesa_test_status`, which no save is judged by.
    """
    who = await signed_in(request)
    bar = require_bar_id(bar_id)
    async with context.of(request).database.reading() as connection:
        await membership.require(connection, who.person, bar, to_write=False)
        stored = await settings.stored_of(connection, bar)
    if stored is None:
        raise BarNotFound("Bar not found")
    headers = {"etag": preconditions.etag(stored.digest), "cache-control": "no-store"}
    return Response(Found(success=True, settings=settings_of(stored)), headers=headers)


def settings_of(stored: StoredSettings) -> Settings:
    """Return what is stored as the existing API names it; the row that is meant is the first."""
    row = stored.rows[0] if stored.rows else None
    key, secret, passkey = (MASK if has else "" for has in (row.has if row else (False, False, False)))
    return Settings(
        mpesa_enabled=any(found.is_active is True for found in stored.rows),
        mpesa_environment=row.environment if row else Environment.SANDBOX,
        mpesa_business_shortcode=row.shortcode if row else "",
        mpesa_consumer_key=key,
        mpesa_consumer_secret=secret,
        mpesa_passkey=passkey,
        mpesa_setup_completed=bool(row and row.has_all) if stored.setup_completed is None else stored.setup_completed,
        mpesa_last_test_at=stored.last_test_at,
        mpesa_test_status=stored.test_status or "pending",
        has_credentials=bool(row and row.has_all),
        mpesa_account_type=row.account_type if row else AccountType.PAYBILL,
        mpesa_till_number=row.till_number if row else "",
    )


def _require_csrf(request: Request[Any, Any, Any], who: SignedIn) -> None:
    """Ask a browser's session for the token of its page; a bearer token is sent by no page of others."""
    if who.session is not None:
        require_csrf(request, who.session, request.headers.get(CSRF_HEADER))
