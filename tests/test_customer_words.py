"""What customers read is one catalogue a language: another one is used throughout, and nothing is said past it."""

from __future__ import annotations

import json
import re
import string
from dataclasses import replace
from typing import Any, Final

import pytest

from mpesa_sync.domain.availability import Method
from mpesa_sync.web import menu_view, pages, views
from mpesa_sync.web.customer_texts import CATALOGUES, ENGLISH, Words, words_for
from tests.support.pages import Page, samples
from tests.support.venues import add_bar
from tests.support.web import Site

NAME: Final = "Mama Njeri"
MENUS: Final = [name for name in samples() if name.startswith("menu")]
_SILENT: Final = re.compile(r"<(script|template|svg)\b.*?</\1>|<[^>]*>", re.S)


@pytest.fixture(autouse=True)
def _another_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language whose every text stands in brackets, so that what is left outside of them is in no catalogue."""
    monkeypatch.setitem(CATALOGUES, "xx", {key: f"⟦{text}⟧" for key, text in ENGLISH.items()})


def _said(html: str) -> list[str]:
    """Return the texts of a page that people read."""
    return [text.strip() for text in _SILENT.sub("\n", html).split("\n") if text.strip()]


@pytest.mark.parametrize("name", MENUS)
def test_every_word_of_the_page_is_of_its_language(name: str) -> None:
    """Issue 6: Swahili can follow as a catalogue; names of venues and what was ordered stay as they are."""
    view = samples(NAME)[name][1]
    assert isinstance(view, views.MenuView)
    view = replace(view, words=Words("xx"), payment=menu_view.NO_PAYMENT)
    html = pages.render("menu.html", words=view.words, view=view)
    assert '<html lang="xx">' in html
    own = {NAME, "Nyama choma, half a kilo"}
    assert [text for text in _said(html) if text not in own and not re.fullmatch("⟦.*⟧", text)] == []
    texts = json.loads(Page(html).text("texts"))
    spoken = [*texts.pop("methods").values(), *texts.pop("pay").values(), *texts.values()]
    assert [text for text in spoken if not re.fullmatch("⟦.*⟧", text)] == []


def test_the_reader_of_these_tests_sees_a_word_that_is_in_no_catalogue() -> None:
    """A test that cannot fail is a defect."""
    assert _said("<p>⟦Yes⟧ <b>no</b></p><script>x</script>") == ["⟦Yes⟧", "no"]


def test_every_language_has_the_same_keys_and_places() -> None:
    """Issue 6: a catalogue that lacks a text, or a place in it, is found before a customer finds it."""
    for language, catalogue in CATALOGUES.items():
        assert catalogue.keys() == ENGLISH.keys(), language
        for key, text in catalogue.items():
            places = [
                {place for _, place, _, _ in string.Formatter().parse(one) if place} for one in (text, ENGLISH[key])
            ]
            assert places[0] == places[1], (language, key)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("xx", "xx"),
        ("XX-KE,en;q=0.8", "xx"),
        ("en;q=0.9,xx;q=0.3", "en"),
        ("fr,de;q=0.5", "en"),
        ("xx;q=0,en", "en"),
        ("xx;q=nan,xx;q=x,;q=1,*", "en"),
        ("x" * 100_000, "en"),
    ],
)
def test_the_language_is_the_one_that_is_liked_best(accepted: str, language: str) -> None:
    """Issue 6: what the browser asks for, as far as there is a catalogue; whatever else it sends does no harm."""
    assert words_for(accepted).language == language


@pytest.mark.parametrize("method", Method)
def test_every_answer_and_remedy_has_words(method: Method) -> None:
    """Issue 6: allowed, refused with and without something else, and not known, of every method."""
    words = Words("xx")
    for offered in ((method,), (Method.CASH,), ()):
        assert menu_view.reason(words, method, offered).startswith("⟦")
    assert menu_view.unsure(words, method).startswith("⟦")
    assert "cash is fine" in menu_view.unsure(Words("en"), method).lower()


async def test_page_answer_and_refusal_come_in_the_language_that_is_asked_for(site: Site, sql: Any) -> None:
    """Issue 6: over HTTP, the page of a venue that there is not, and what Pay is answered, too."""
    bar, headers = await add_bar(sql, mpesa_enabled=True, production=True), {"accept-language": "xx,en;q=0.5"}
    for path, status in ((f"/menu/{bar}", 200), ("/menu/nobody", 404)):
        page = await site.client.get(path, headers=headers)
        assert page.status_code == status
        assert '<html lang="xx">' in page.text
        assert page.headers["vary"] == "accept-language"
    asked = f"/api/bars/{bar}/payment-intents"
    allowed = await site.client.post(asked, headers=headers, json={"method": "mpesa"})
    wrong = await site.client.post(asked, headers=headers, json={"method": "mpesa", "phone": "1"})
    posted = await site.client.post(f"/menu/{bar}", headers=headers, data={"method": "mpesa", "phone": "1"})
    assert allowed.json()["reason"] == f"⟦{ENGLISH['pay.allowed.mpesa']}⟧"
    assert wrong.json()["errors"][0]["message"] == f"⟦{ENGLISH['pay.wrong.phone.malformed']}⟧"
    assert Page(posted.text).text("phone-wrong") == f"⟦{ENGLISH['pay.wrong.phone.malformed']}⟧"
