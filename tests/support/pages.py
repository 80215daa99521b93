"""Sample pages: every template with values that a real venue could have, and a reader of the HTML that came out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, Final
from uuid import UUID

from mpesa_sync.domain.availability import Method, hidden_reason, warnings
from mpesa_sync.domain.bars import BarFacts, CredentialsRow
from mpesa_sync.domain.credentials import SECRET_FIELDS, Environment, FieldError
from mpesa_sync.refusals import StaleForm
from mpesa_sync.web import conflict_view, form_view, pages, status_view, views
from mpesa_sync.web.form_view import Stored
from mpesa_sync.web.menu_view import MenuCard, Payment, Product, TabLine, Tone

BAR: Final = UUID("6f7d8a52-9f0e-5f0a-8c39-5a1d2f4b7c11")
PERSON: Final = views.SignedIn(name="asha", csrf="token-of-this-session")
HOSTILE: Final = "</title></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202egnp.exe"
VOID: Final = frozenset({"meta", "link", "input", "img", "br", "rect", "path", "circle"})


def facts(*rows: CredentialsRow, mpesa_enabled: bool | None = True, **more: Any) -> BarFacts:
    """Return the facts of the sample bar."""
    return BarFacts(BAR, mpesa_enabled, rows, **more)


def row(
    is_active: bool | None = True, environment: Environment = Environment.PRODUCTION, **more: Any
) -> CredentialsRow:
    """Return one credentials row."""
    return CredentialsRow(environment, is_active, **more)


def status_of(found: BarFacts, *, allow_sandbox: bool = False, paused: bool = False) -> status_view.StatusView:
    """Return the status block of a bar as the rule decides it."""
    reason = hidden_reason(found, allow_sandbox=allow_sandbox, paused=paused)
    return status_view.status(found, reason, warnings(found, allow_sandbox=allow_sandbox), version="e:7")


def mpesa(found: BarFacts | None = None, *, name: str = "Mama Njeri's Kitchen", **more: Any) -> views.MpesaView:
    """Return the M-Pesa page of a venue whose owner looks at it."""
    found = found if found is not None else facts(row())
    stored = [Stored(one.environment, "600100", secrets=frozenset(SECRET_FIELDS)) for one in found.rows]
    before, after = {"credentials": {"production": False}, "mpesa_enabled": None}, {"credentials": {"production": True}}
    change = form_view.change(
        datetime(2026, 3, 1, 18, 5, tzinfo=UTC),
        f"staff:{name}",
        "switch",
        before,
        {**after, "mpesa_enabled": True},
        name,
    )
    given: dict[str, Any] = {
        "person": PERSON,
        "bar_id": str(BAR),
        "slug": "mama-njeri",
        "name": name,
        "role": "owner",
        "status": status_of(found),
        "changes": (change,),
        "switch": status_view.switch(found, allow_sandbox=False),
        "form": form_view.form(stored),
        "etag": "5f2c",
        "once": str(BAR),
    }
    return views.MpesaView(**{**given, **more})


def form_with_errors() -> form_view.FormView:
    """Return a form that was refused: every field is wrong, and one warning besides."""
    names = ("environment", "account_type", "business_shortcode", "till_number", *SECRET_FIELDS)
    errors = [FieldError(f"mpesa_{name}", "missing", f"Remedy of {name}.") for name in names]
    return form_view.form(
        [Stored(Environment.PRODUCTION, "600100", secrets=frozenset(SECRET_FIELDS))],
        typed={"mpesa_environment": "sandbox", "mpesa_account_type": "till", "mpesa_business_shortcode": "12x"},
        errors=errors,
        warnings=[FieldError("mpesa_till_number", "till_number_unused", "It is left out.")],
    )


def conflict(name: str, *, switch: bool = False) -> views.MpesaView:
    """Return the page of a form that met a colleague's change: every value differs, and a secret was typed."""
    error = StaleForm(
        changed_by=f"staff:{name}", changed_at=None if switch else datetime(2026, 3, 1, 18, 5, tzinfo=UTC)
    )
    stored = [Stored(Environment.PRODUCTION, "600100", secrets=frozenset(SECRET_FIELDS), is_active=True)]
    if switch:
        view = conflict_view.of_switch(error, {"is_active": "false"}, stored)
    else:
        typed = {"mpesa_environment": "sandbox", "mpesa_account_type": "till", "mpesa_business_shortcode": "600200"}
        view = conflict_view.of_form(error, {**typed, "mpesa_till_number": "700700", "mpesa_passkey": "new"}, stored)
    return mpesa(name=name, switch=None, form=None, conflict=view)


def demo(name: str) -> views.DemoView:
    """Return the demo page, one of whose venues has this name."""
    bad = views.DemoVenue(str(BAR), "baraka", name, "drifted", "false", "production: true", "hidden")
    good = views.DemoVenue(str(BAR), "nyali", "Nyali Beach Bar", "as it should be", "true", "production: true", "")
    control = views.DemoControl("legacy", "The old staff app", "Writes one field alone.", "Write it")
    return views.DemoView((bad, good), bad, (control,), "/demo", f"Written at {name}.")


def card(name: str) -> MenuCard:
    """Return a menu card one of whose products has this name."""
    drink, meal = Product(name, 350), Product("Nyama choma, half a kilo", 1_200)
    return MenuCard((drink, meal), (TabLine(drink, 3), TabLine(meal, 1)), is_sample=True)


def asked(method: Method | None, answer: str, tone: Tone, **wrong: str) -> Payment:
    """Return what a posted form asked, with its answer."""
    return Payment(method, "0712 345 678", "1,250", tone, answer, wrong)


def samples(name: str = "Mama Njeri's Kitchen") -> Mapping[str, tuple[str, object]]:
    """Return every page in its states as (template, view); `name` is the venue's wherever one is shown."""
    bar, line = str(BAR), views.VenueLine(str(BAR), "mama-njeri", name, "owner", status_of(facts(row())))
    return {
        "menu": ("menu.html", views.menu(bar, name, ["mpesa", "card", "cash"], "e:7")),
        "menu with nothing": ("menu.html", views.menu(bar, name, [], "e:7")),
        "menu not sure": ("menu.html", views.menu_unsure("mama-njeri", name)),
        "menu with a tab": ("menu.html", views.menu(bar, name, ["mpesa", "cash"], "e:7", card=card(name))),
        "menu closed": ("menu.html", views.menu(bar, name, ["card", "cash"], "e:7", is_closed=True)),
        "menu allowed": (
            "menu.html",
            views.menu(bar, name, ["mpesa", "cash"], "e:7", payment=asked(Method.MPESA, f"Yes, {name}.", "good")),
        ),
        "menu refused": (
            "menu.html",
            views.menu(bar, name, ["cash"], "e:7", payment=asked(Method.MPESA, f"No, {name}.", "check")),
        ),
        "menu wrong": (
            "menu.html",
            views.menu(
                bar, name, ["mpesa"], "e:7", payment=asked(Method.MPESA, "Look.", "bad", phone=name, amount="x")
            ),
        ),
        "sign in": ("sign_in.html", views.SignInView()),
        "sign in refused": ("sign_in.html", views.sign_in_refused(name, to="/staff")),
        "venues": ("venues.html", views.VenuesView(PERSON, (line,))),
        "no venues": ("venues.html", views.VenuesView(PERSON, (), is_operator=True)),
        "mpesa on": ("mpesa.html", mpesa(name=name, notice="Saved.")),
        "mpesa drifted": ("mpesa.html", mpesa(facts(row(), mpesa_enabled=False), name=name)),
        "mpesa new": ("mpesa.html", mpesa(facts(mpesa_enabled=False), name=name, changes=())),
        "mpesa refused": ("mpesa.html", mpesa(name=name, form=form_with_errors(), error="It could not be saved.")),
        "mpesa for staff": ("mpesa.html", mpesa(name=name, role="staff", switch=None, form=None)),
        "mpesa conflict": ("mpesa.html", conflict(name)),
        "mpesa conflict of the switch": ("mpesa.html", conflict(name, switch=True)),
        "problem": ("problem.html", views.problem(503, here="/staff", message=name, reference=bar)),
        "demo": ("demo.html", demo(name)),
    }


class Page(HTMLParser):
    """The elements of a page, with their attributes and the text in them; complains where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[tuple[str, int]] = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element that has no content."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        assert self._open, tag
        assert self._open[-1][0] == tag, f"{tag} closes {self._open[-1]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        """Add a text to every element that it stands in."""
        for _, number in self._open:
            self.texts[number] = self.texts.get(number, "") + data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """Return the attributes of every such element; `type_` and the like stand for Python's own words."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    def text(self, id_: str) -> str:
        """Return the text of the element with this id, white space folded."""
        number = next(n for n, (_, found) in enumerate(self.elements) if found.get("id") == id_)
        return " ".join(self.texts.get(number, "").split())

    @property
    def ids(self) -> list[str]:
        """Return every id in the order of the page."""
        return [found["id"] for _, found in self.elements if "id" in found]


def read(template: str, view: object) -> Page:
    """Return a rendered page, read."""
    return Page(pages.render(template, view=view))
