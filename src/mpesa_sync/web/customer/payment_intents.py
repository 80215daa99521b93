"""POST /api/bars/{id or slug}/payment-intents: may this be paid with, asked of the database anew (R3).

Only the question: no money is taken and nothing is written, so whoever asks need not be known.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.params import FromPath

from mpesa_sync.domain import payments
from mpesa_sync.domain.availability import Method
from mpesa_sync.domain.credentials import FieldError
from mpesa_sync.domain.payments import Intent
from mpesa_sync.errors import BarNotFound, DatabaseFault, InvalidInput, InvalidSettings, SchemaError, TransientFault
from mpesa_sync.live.offers import BarName, Choice, Known
from mpesa_sync.web import auth, context, cors, menu_view
from mpesa_sync.web.api import openapi
from mpesa_sync.web.body import json_object
from mpesa_sync.web.customer.menu import words_of
from mpesa_sync.web.customer_texts import Words

PATH: Final = "/api/bars/{bar:str}/payment-intents"


class PaymentAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether a method is possible now. `reason` is for a customer to read, whatever the answer.

    The rest is what GET payment-methods says, of the same moment.
    """

    bar: BarName
    method: Method
    allowed: bool
    reason: str
    methods: tuple[Choice, ...]
    version: str
    closed: bool = False


@post(
    PATH,
    status_code=200,
    summary="May this be paid with now? Takes no money",
    operation_id="askToPay",
    operation_class=openapi.PaymentIntentOperation,
    responses=openapi.failures(400, 403, 404, 408, 413, 500, 503),
)
async def ask(request: Request[Any, Any, Any], bar: FromPath[str]) -> Response[PaymentAnswer]:
    """Return whether a method is possible now. Where the database cannot be asked it is not: 503."""
    if not cors.is_listed(request):
        auth.require_own_page(request)
    words = words_of(request)
    asked = _intent(words, await json_object(request))
    hub = context.of(request).hub
    try:
        known = await hub.known(await hub.resolve(bar), fresh=True)
    except BarNotFound:
        raise
    except (DatabaseFault, SchemaError) as error:
        raise TransientFault(menu_view.unsure(words, asked.method), sqlstate=error.sqlstate) from error
    return Response(_answer(words, asked, known), headers={"cache-control": "no-store"})


def _intent(words: Words, body: dict[str, Any]) -> Intent:
    if body.keys() - set(payments.FIELDS):
        raise InvalidInput("body", f"may hold {', '.join(payments.FIELDS)}, and nothing else")
    found = payments.intent(body.get("method"), body.get("phone"), body.get("amount"))
    if isinstance(found, Intent):
        return found
    remedies = menu_view.remedies(words, found)
    errors = [FieldError(one.field, one.code, remedies[one.field]) for one in found]
    raise InvalidSettings(words.text("pay.wrong"), errors, code="invalid_payment")


def _answer(words: Words, asked: Intent, known: Known) -> PaymentAnswer:
    offer = known.offer
    offered = tuple(choice.id for choice in offer.methods)
    return PaymentAnswer(
        bar=offer.bar,
        method=asked.method,
        allowed=asked.method in offered,
        reason=menu_view.reason(words, asked.method, offered),
        methods=offer.methods,
        version=offer.version,
        closed=known.is_closed,
    )
