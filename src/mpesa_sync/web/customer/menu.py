"""/menu/{slug}: what a customer of a bar may pay with, rendered by the server and kept true by a script (R3, T7.1).

Its form asks again before anybody pays; with the script the same is asked of `payment_intents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from litestar import MediaType, Request, Response, get, post
from litestar.params import FromPath

from mpesa_sync.domain import payments
from mpesa_sync.domain.availability import Method
from mpesa_sync.domain.payments import Intent, Wrong
from mpesa_sync.errors import BarNotFound, DatabaseFault, InvalidInput, SchemaError
from mpesa_sync.live.offers import Known
from mpesa_sync.web import auth, context, menu_view, pages, views
from mpesa_sync.web.body import form_fields
from mpesa_sync.web.customer_texts import Words, words_for
from mpesa_sync.web.menu_view import NO_PAYMENT, Payment


@get("/menu/{bar:str}", media_type=MediaType.HTML, include_in_schema=False)
async def show(request: Request[Any, Any, Any], bar: FromPath[str]) -> Response[str]:
    """Return the page of a bar, by its slug or id. Where the answer cannot be had it offers cash, and no M-Pesa."""
    words = words_of(request)
    try:
        known = await _known(request, bar)
    except (BarNotFound, InvalidInput):
        return _unknown(words)
    except (DatabaseFault, SchemaError):
        return _page(views.menu_unsure(bar, words=words), HTTPStatus.SERVICE_UNAVAILABLE)
    return _page(_view(request, bar, known, words, NO_PAYMENT), HTTPStatus.OK)


@post("/menu/{bar:str}", media_type=MediaType.HTML, include_in_schema=False)
async def ask(request: Request[Any, Any, Any], bar: FromPath[str]) -> Response[str]:
    """Return the page with the answer to its form: whether this method is possible now, asked of the database anew."""
    auth.require_own_page(request)
    words, fields = words_of(request), await form_fields(request)
    method = fields.get("method", "")
    typed = fields if method == Method.MPESA else {}
    asked = payments.intent(method, typed.get("phone"), payments.typed_amount(typed.get("amount", "")))
    try:
        known = await _known(request, bar, fresh=True)
    except (BarNotFound, InvalidInput):
        return _unknown(words)
    except (DatabaseFault, SchemaError):
        payment = _payment(words, fields, asked, None)
        return _page(views.menu_unsure(bar, words=words, payment=payment), HTTPStatus.SERVICE_UNAVAILABLE)
    payment = _payment(words, fields, asked, tuple(choice.id for choice in known.offer.methods))
    status = HTTPStatus.BAD_REQUEST if payment.wrong else HTTPStatus.OK
    return _page(_view(request, bar, known, words, payment), status)


def words_of(request: Request[Any, Any, Any]) -> Words:
    """Return the texts in the language that somebody's browser asks for."""
    return words_for(request.headers.get("accept-language", ""))


async def _known(request: Request[Any, Any, Any], bar: str, *, fresh: bool = False) -> Known:
    hub = context.of(request).hub
    return await hub.known(await hub.resolve(bar), fresh=fresh)


def _payment(
    words: Words, fields: Mapping[str, str], asked: Intent | tuple[Wrong, ...], offered: tuple[Method, ...] | None
) -> Payment:
    """Return what was asked with its answer; `offered` is None where the answer cannot be had."""
    phone, amount = (views.typed(fields.get(name, ""), longest=40) for name in ("phone", "amount"))
    if not isinstance(asked, Intent):
        method = Method(fields["method"]) if fields.get("method") in tuple(Method) else None
        wrong = menu_view.remedies(words, asked)
        return Payment(method, phone, amount, "bad", words.text("pay.wrong"), wrong)
    if offered is None:
        return Payment(asked.method, phone, amount, "check", menu_view.unsure(words, asked.method))
    tone: menu_view.Tone = "good" if asked.method in offered else "check"
    return Payment(asked.method, phone, amount, tone, menu_view.reason(words, asked.method, offered))


def _view(request: Request[Any, Any, Any], bar: str, known: Known, words: Words, payment: Payment) -> views.MenuView:
    offer = known.offer
    return views.menu(
        str(offer.bar.id),
        offer.bar.name,
        [choice.id for choice in offer.methods],
        offer.version,
        words=words,
        at=bar,
        is_closed=known.is_closed,
        card=context.of(request).menu_cards(offer.bar.id),
        payment=payment,
    )


def _unknown(words: Words) -> Response[str]:
    return _answer(pages.render("problem.html", words=words, view=views.unknown_venue(words)), HTTPStatus.NOT_FOUND)


def _page(view: views.MenuView, status: HTTPStatus) -> Response[str]:
    return _answer(pages.render("menu.html", words=view.words, view=view), status)


def _answer(content: str, status: HTTPStatus) -> Response[str]:
    headers = {"cache-control": "no-store", "vary": "accept-language"}
    return Response(content, status_code=status, media_type=MediaType.HTML, headers=headers)
