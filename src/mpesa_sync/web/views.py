"""What each page gets: frozen values and the pure functions that make them. Nothing is read or rendered here.

The parts of a venue's M-Pesa page stand in `status_view` and `form_view`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mpesa_sync.domain.availability import Method
from mpesa_sync.domain.credentials import clean_text, has_refused_characters
from mpesa_sync.web.conflict_view import ConflictView
from mpesa_sync.web.customer_texts import Words, words_for
from mpesa_sync.web.form_view import ChangeView, FormView
from mpesa_sync.web.menu_view import NO_PAYMENT, MenuCard, Payment
from mpesa_sync.web.status_view import StatusView, SwitchView
from mpesa_sync.web.texts import TEXTS, scripts, text


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is signed in, for the head of every staff page; `csrf` is the token of this session's forms."""

    name: str
    csrf: str


@dataclass(frozen=True, slots=True)
class MenuView:
    """The customers' page. `bar` is the id (or slug) that the script asks for, `version` "" where none is known.

    `sure` is False where the answer could not be had: then `methods` is what is safe to offer (fail closed). `at` is
    where the page was asked for, and so where its form goes. `payment`: what the form asked, and what it was answered.
    """

    bar: str
    name: str
    methods: tuple[Method, ...]
    version: str
    sure: bool
    words: Words
    at: str
    is_closed: bool = False
    card: MenuCard | None = None
    payment: Payment = NO_PAYMENT

    @property
    def chosen(self) -> Method | None:
        """Return what is chosen in this page: what the form asked, as long as it is offered; at first the first."""
        if self.payment.method is None:
            return next(iter(self.methods), None)
        return self.payment.method if self.payment.method in self.methods else None

    @property
    def snapshot(self) -> str:
        """Return the answer that this page shows, as JSON for its script (L5: no gap between page and stream)."""
        methods = [{"id": method.value, "label": text(f"method.{method}")} for method in self.methods]
        closed = {"closed": True} if self.is_closed else {}
        return script_json({"methods": methods, **closed, "version": self.version})

    @property
    def script_texts(self) -> str:
        """Return the texts that the script needs, as JSON."""
        words = self.words
        names = {method.value: words.text(f"method.{method}") for method in Method}
        pay = {name: words.raw(f"pay.{name}") for name in ("asking", "failed", "button", "button.with", "wrong")}
        choice = {"choice": words.raw("menu.your_choice")}
        return script_json({"methods": names, **words.under("feed."), **words.under("change."), **choice, "pay": pay})


def menu(
    bar: str,
    name: str,
    methods: Iterable[str],
    version: str,
    *,
    words: Words | None = None,
    at: str = "",
    is_closed: bool = False,
    card: MenuCard | None = None,
    payment: Payment = NO_PAYMENT,
) -> MenuView:
    """Return the customers' page for an answer that is known (R3.1, R3.4: the same without JavaScript).

    Arguments:
        bar: the bar's id, which the script asks for.
        methods: ids of the offer, in its order; one that is unknown here is left out.
        version: `epoch:n` of the answer.
        words: the texts; None: those of the first language.
        at: the id or slug that the page was asked for by; "": the bar's id.
        is_closed: whether the venue is marked as closed.
        card, payment: as in `MenuView`.
    """
    known = tuple(Method(method) for method in methods if method in tuple(Method))
    return MenuView(bar, name, known, version, True, words or words_for(), at or bar, is_closed, card, payment)


def menu_unsure(bar: str, name: str = "", *, words: Words | None = None, payment: Payment = NO_PAYMENT) -> MenuView:
    """Return the customers' page where the answer cannot be had: cash, and no M-Pesa (spec 2, fail closed)."""
    return MenuView(bar, name, (Method.CASH,), "", False, words or words_for(), bar, payment=payment)


@dataclass(frozen=True, slots=True)
class SignInView:
    """The sign-in page. The name stays as typed, a password never does; `to` is where to go afterwards."""

    name: str = ""
    error: str = ""
    to: str = ""


def sign_in_refused(name: str, *, to: str = "") -> SignInView:
    """Return the sign-in page after a name and a password that do not belong together."""
    return SignInView(name=typed(name), error=text("sign_in.refused"), to=to)


def sign_in_wait(name: str, retry_after_s: int, *, to: str = "") -> SignInView:
    """Return the sign-in page after too many tries; `retry_after_s` in seconds, said in whole minutes."""
    minutes = -(-retry_after_s // 60)
    wait = text("sign_in.minute") if minutes <= 1 else text("sign_in.minutes", count=minutes)
    return SignInView(name=typed(name), error=text("sign_in.wait", minutes=wait), to=to)


def sign_in_failed(name: str, *, to: str = "") -> SignInView:
    """Return the sign-in page where the database could not be asked."""
    return SignInView(name=typed(name), error=text("sign_in.failed"), to=to)


@dataclass(frozen=True, slots=True)
class VenueLine:
    """One venue in the list: where its page is, the person's role there, and what customers see."""

    bar_id: str
    slug: str
    name: str
    role: str
    status: StatusView


@dataclass(frozen=True, slots=True)
class VenuesView:
    """The list of a person's venues."""

    person: SignedIn
    venues: tuple[VenueLine, ...]
    is_operator: bool = False

    @property
    def script_texts(self) -> str:
        """Return the texts that the script needs, as JSON."""
        return script_json({name: text(f"venues.{name}") for name in ("live", "not_live")})


@dataclass(frozen=True, slots=True)
class MpesaView:
    """A venue's M-Pesa page. `switch` and `form` are None for a role that may only read, and beside a `conflict`.

    `etag` tells what the page was made from and goes with every form (If-Match, R4), so the HTML of the switch changes
    with whatever is stored. `once` is this making of the page and goes with the credentials alone.
    `notice` is what has just been done, `error` why it could not be: texts that are safe to show.
    """

    person: SignedIn
    bar_id: str
    slug: str
    name: str
    role: str
    status: StatusView
    changes: tuple[ChangeView, ...]
    switch: SwitchView | None = None
    form: FormView | None = None
    conflict: ConflictView | None = None
    etag: str = ""
    once: str = ""
    notice: str = ""
    error: str = ""

    @property
    def script_texts(self) -> str:
        """Return the texts that the script needs, as JSON."""
        return script_json(scripts("now."))


@dataclass(frozen=True, slots=True)
class ProblemView:
    """A page for an answer that is no success. `again`: the address to try once more, "" where that cannot help."""

    status: int
    title: str
    text: str
    again: str = ""
    sign_in: bool = False
    home: bool = False
    reference: str = ""


_PROBLEMS: Final = (400, 401, 403, 404, 409, 429, 500, 503)


def problem(
    status: int, *, message: str = "", here: str = "", customer: bool = False, reference: str = ""
) -> ProblemView:
    """Return the page for an HTTP status, in plain words.

    Arguments:
        message: a text that is safe to show (of an `MpesaSyncError`), in the place of the general one.
        here: the address of the page that was asked for, "" where it cannot be asked for again (a form).
        customer: whether a customer asked: no way to staff pages is shown.
        reference: the operation id, which support can look up.
    """
    known = status if status in _PROBLEMS else 500 if status >= 500 else 400
    general = TEXTS.get(f"problem.{known}.customer") if customer else None
    return ProblemView(
        status=status,
        title=TEXTS.get(f"problem.{known}.title.customer" if customer else "") or text(f"problem.{known}.title"),
        text=message or general or text(f"problem.{known}.text"),
        again=here if known in (429, 500, 503) else "",
        sign_in=known == 401 and not customer,
        home=known != 401 and not customer,
        reference=reference,
    )


def unknown_venue(words: Words) -> ProblemView:
    """Return the page of a venue that does not exist, for a customer."""
    title, said = words.text("problem.404.title.customer"), words.text("problem.404.customer")
    return ProblemView(status=404, title=title, text=said)


@dataclass(frozen=True, slots=True)
class DemoVenue:
    """One sample venue, with both fields as they are stored; `state` says in words what was done to it."""

    id: str
    slug: str
    name: str
    state: str
    mpesa_enabled: str
    active: str
    drift: str


@dataclass(frozen=True, slots=True)
class DemoControl:
    """Something that breaks or mends: its button, what it does, what to look at, how to mend it."""

    id: str
    title: str
    text: str
    button: str
    mends: bool = False


@dataclass(frozen=True, slots=True)
class DemoView:
    """The demo: all sample venues, and one of them as staff and customers see it.

    `action` is where the controls post to, with `control` (the id) and `venue` (the slug) as fields. `sign_in`: as
    whom one press signs this browser in, "" where it is signed in.
    """

    venues: tuple[DemoVenue, ...]
    chosen: DemoVenue
    controls: tuple[DemoControl, ...]
    action: str
    result: str = ""
    sign_in: str = ""


def script_json(value: Mapping[str, object] | Sequence[object]) -> str:
    """Return JSON that may stand inside a script element: no character that could end it or begin a comment."""
    encoded = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def typed(value: str, *, longest: int = 200) -> str:
    """Return what somebody typed, to be shown again: cut, and "" where it holds characters nobody can see."""
    cleaned = clean_text(value)[:longest]
    return "" if has_refused_characters(cleaned) else cleaned


def plain(value: str) -> str:
    """Return a name for places without markup, such as a window's title: without invisible characters."""
    return "".join(" " if c.isspace() else c for c in value if c.isspace() or not has_refused_characters(c)).strip()
