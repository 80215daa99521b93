"""Every page in every state: well-formed, nothing inline, hostile names harmless, small, and labelled for everybody."""

from __future__ import annotations

import json
import re
from typing import Final

import jinja2
import pytest

from mpesa_sync.web import pages, views
from tests.support.pages import BAR, HOSTILE, Page, mpesa, read, samples

SAMPLES: Final = samples()
FIRST_VIEW_BYTES: Final = 60 * 1024
CSS_BYTES: Final = 12 * 1024
every_page = pytest.mark.parametrize("name", SAMPLES)


@every_page
def test_a_page_is_well_formed_and_loads_nothing_foreign(name: str) -> None:
    """Issue 3, CSP: tags match, ids are single, every address is our own."""
    page = read(*SAMPLES[name])
    assert len(page.ids) == len(set(page.ids))
    for _, found in page.elements:
        for attribute in ("src", "href", "action"):
            assert re.match(r"[/#?]", found.get(attribute, "/")), found
    assert page.all("html", lang="en")
    assert page.all("meta", name="viewport")


@every_page
def test_no_page_needs_anything_inline(name: str) -> None:
    """Issue 3, CSP: no inline script that runs, no inline style, no handler; data blocks alone stand in the page."""
    page = read(*SAMPLES[name])
    assert not page.all("style")
    for tag, found in page.elements:
        assert "style" not in found, (tag, found)
        assert not [attribute for attribute in found if attribute.startswith("on")], (tag, found)
        if tag == "script":
            assert found.get("type") == "application/json" or found["src"].startswith("/static/"), found


@every_page
def test_a_hostile_name_stays_text(name: str) -> None:
    """Issue 3, odd input: a venue's name, a person's name or a reason adds no element and ends no data block."""
    harmless, hostile = read(*SAMPLES[name]), read(*samples(HOSTILE)[name])
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in harmless.elements]
    html = pages.render(samples(HOSTILE)[name][0], view=samples(HOSTILE)[name][1])
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    title = re.search("<title>(.*)</title>", html)
    assert title
    assert "\u202e" not in title[1]


@every_page
def test_every_control_has_a_name(name: str) -> None:
    """Issue 3, screen reader: fields have labels, pictures a text or none on purpose, descriptions exist."""
    page = read(*SAMPLES[name])
    labels = {found["for"] for found in page.all("label") if "for" in found}
    for tag in ("input", "select"):
        for found in page.all(tag):
            if found.get("type") not in ("hidden", "radio", "checkbox"):
                assert found["id"] in labels, found
    for _, found in page.elements:
        for described in found.get("aria-describedby", "").split():
            assert described in page.ids, described
    assert all("alt" in found for found in page.all("img"))
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1


@every_page
def test_every_form_of_a_session_carries_its_token(name: str) -> None:
    """Issue 3, CSRF: each form that posts has the token in the field `csrf`; without a session there is none: signing
    in, the demo and what a customer asks.
    """
    page = read(*SAMPLES[name])
    forms = page.all("form", method="post")
    posting = [found for found in forms if not found["action"].startswith(("/staff/sign-in", "/demo", "/menu/"))]
    assert len(page.all("input", name="csrf")) == len(posting)
    assert len(page.all("form")) == len(page.all("form", method="post"))


def test_the_first_view_of_a_customer_is_small() -> None:
    """Issue 3: page, style sheet and scripts of a customer's first visit stay below 60 KB, the sheet below 12 KB."""
    html = pages.render("menu.html", view=SAMPLES["menu"][1])
    sizes = {
        name: len(pages.assets()[name].body)
        for name in ("site.css", "customer.css", "customer.js", "live.js", "icon.svg")
    }
    assert sizes["site.css"] <= CSS_BYTES
    assert len(html.encode()) + sum(sizes.values()) <= FIRST_VIEW_BYTES


def test_the_customers_page_is_complete_without_its_script() -> None:
    """R3.4: the server renders the choices, in the order of the offer, the first of them chosen, in a form to ask."""
    page = read(*SAMPLES["menu"])
    radios = page.all("input", type_="radio")
    assert [found["value"] for found in radios][:3] == ["mpesa", "card", "cash"]
    assert [found["value"] for found in radios if "checked" in found] == ["mpesa"]
    assert page.all("form", method="post", action=f"/menu/{BAR}#answer")
    assert page.text("status") == "This is what is possible now. Load the page again to be sure."
    assert all("hidden" in found for found in page.all("p", id="none"))


def test_a_page_embeds_the_snapshot_that_it_was_rendered_from() -> None:
    """L5: version and methods stand in the page, so that the stream goes on from there."""
    page = read(*SAMPLES["menu"])
    snapshot = json.loads(page.text("snapshot"))
    assert snapshot["version"] == "e:7"
    assert [method["id"] for method in snapshot["methods"]] == ["mpesa", "card", "cash"]
    assert page.all("main", data_url="/api/bars/6f7d8a52-9f0e-5f0a-8c39-5a1d2f4b7c11/payment-methods")


def test_a_data_block_cannot_be_ended_from_inside() -> None:
    """Issue 3, odd input: JSON in a page holds no `<`, `>` or `&`, and is still the same value."""
    hostile = {"name": f"{HOSTILE}<!--\u2028"}
    block = views.script_json(hostile)
    assert not re.search("[<>&]", block)
    assert json.loads(block) == hostile


def test_where_the_answer_cannot_be_had_cash_is_offered_and_mpesa_is_not() -> None:
    """Spec 2, fail closed: the page says so in words."""
    page = read(*SAMPLES["menu not sure"])
    assert page.text("methods") == "Cash Notes and coins"
    assert page.text("status") == "We cannot confirm M-Pesa right now. Cash is fine."


def test_an_unknown_method_is_left_out() -> None:
    """R3.3: a page shows what it knows, nothing else."""
    assert views.menu("x", "Bar", ["mpesa", "<b>", "cash"], "e:1").methods == ("mpesa", "cash")


def test_where_nothing_is_offered_the_page_says_to_ask() -> None:
    """Issue 3: no empty page."""
    page = read(*SAMPLES["menu with nothing"])
    assert "hidden" in page.all("ul", id="methods")[0]
    assert "hidden" not in page.all("p", id="none")[0]


def test_customers_never_see_a_reason() -> None:
    """Spec 2: reasons are for staff."""
    html = pages.render("menu.html", view=SAMPLES["menu with nothing"][1])
    assert not re.search("drift|credential|switched|sandbox|secret", html, re.I)


def test_a_password_is_never_sent_back() -> None:
    """Issue 3: the name stays as typed, the password field is empty."""
    page = read("sign_in.html", views.sign_in_refused("asha"))
    assert page.all("input", id="name", value="asha")
    assert "value" not in page.all("input", id="password")[0]


def test_waiting_is_said_in_minutes() -> None:
    """Issue 3: a budget that is used up says how long to wait."""
    assert "a minute" in views.sign_in_wait("asha", 60).error
    assert "2 minutes" in views.sign_in_wait("asha", 61).error


def test_a_template_that_names_what_is_not_there_fails() -> None:
    """Conventions: a gap in a page is an error, not an empty place."""
    with pytest.raises(jinja2.UndefinedError):
        pages.render("menu.html", view=object())


def test_lone_surrogates_do_not_break_a_page() -> None:
    """Issue 3, odd input: what no encoding carries becomes a question mark."""
    assert "Bar ?" in pages.render("menu.html", view=views.menu("x", "Bar \ud800", ["cash"], "e:1"))


def test_a_static_address_changes_with_its_content_and_that_of_its_imports() -> None:
    """Issue 3: addresses hold a digest, and a module names the very module that it imports."""
    live, customer = pages.assets()["live.js"], pages.assets()["customer.js"]
    assert pages.static_url("site.css") == f"/static/site.css?v={pages.assets()['site.css'].digest}"
    assert f'from "./live.js?v={live.digest}"'.encode() in customer.body
    with pytest.raises(KeyError):
        pages.static_url("../texts.py")


@pytest.mark.parametrize(("status", "again"), [(404, False), (403, False), (429, True), (500, True), (503, True)])
def test_a_problem_page_offers_what_can_help(status: int, again: bool) -> None:
    """Issue 3: plain words, and to try again only where that may help."""
    page = read("problem.html", views.problem(status, here="/staff"))
    assert bool([found for found in page.all("a", class_="button") if found["href"] == "/staff"]) is again
    assert page.all("main", data_status=str(status))


def test_a_customer_is_not_led_to_staff_pages() -> None:
    """Issue 3: a customer's problem page has no way to the staff's."""
    page = read("problem.html", views.problem(404, customer=True))
    assert not [found for found in page.all("a") if found["href"].startswith("/staff")]


def test_staff_who_may_only_read_get_no_form() -> None:
    """Issue 3, roles: neither switch nor form, and a sentence that says why."""
    page = read(*SAMPLES["mpesa for staff"])
    assert [found["action"] for found in page.all("form")] == ["/staff/sign-out"]
    assert "Your role here is staff" in page.text("main")


def test_the_page_says_who_changed_what_and_when() -> None:
    """Spec 5: history of who changed what, when."""
    page = read("mpesa.html", mpesa(name="Asha"))
    assert "M-Pesa (Production): off → on" in page.text("changes")
    assert "Shown to customers: not set → on" in page.text("changes")
    assert "by Asha" in page.text("changes")
    assert page.all("time", datetime="2026-03-01T18:05:00+00:00")


def test_the_reader_of_these_tests_sees_broken_markup() -> None:
    """A test that cannot fail is a defect: tags that do not match are told."""
    with pytest.raises(AssertionError):
        Page("<main><p></main>")
