"""What the staff's page says: words for every reason, a switch that tells the truth, a form without secrets."""

from __future__ import annotations

import string
from typing import Final

import pytest

from mpesa_sync.domain.availability import BarWarning, Method, Reason
from mpesa_sync.domain.bars import BarFacts, CheckOutcome, SecretsState
from mpesa_sync.domain.credentials import SECRET_FIELDS, Environment
from mpesa_sync.identity.people import Role
from mpesa_sync.secret import MASK
from mpesa_sync.web import form_view, status_view, texts
from mpesa_sync.web.form_view import Stored
from tests.support.pages import HOSTILE, facts, form_with_errors, mpesa, read, row, status_of

SANDBOX: Final = Environment.SANDBOX
CASES: Final[dict[Reason, BarFacts]] = {
    Reason.PAUSED: facts(row()),
    Reason.BAR_INACTIVE: facts(row(), active=False),
    Reason.NO_CREDENTIALS: facts(mpesa_enabled=False),
    Reason.DRIFT_EXPOSED: facts(row(False)),
    Reason.SWITCHED_OFF: facts(row(None), mpesa_enabled=False),
    Reason.DRIFT_HIDDEN: facts(row(), mpesa_enabled=None),
    Reason.SANDBOX_NOT_ALLOWED: facts(row(environment=SANDBOX)),
    Reason.SECRETS_UNREADABLE: facts(row(secrets=SecretsState.UNREADABLE)),
    Reason.SECRETS_MALFORMED: facts(row(secrets=SecretsState.MISSING)),
    Reason.CREDENTIALS_REJECTED: facts(row(check=CheckOutcome.REJECTED)),
}
OPERATOR_WORDS: Final = ("mpesa-sync ", "bars.", "is_active", "mpesa_enabled", "MPESA_", "NULL", "BAR")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence_and_a_remedy_for_the_venue(reason: Reason) -> None:
    """Spec 5: the reason when hidden, in words that a venue can act on; no command line, no column."""
    status = status_of(CASES[reason], paused=reason is Reason.PAUSED)
    assert status.reason == reason
    for sentence in (status.meaning, status.remedy):
        assert sentence.endswith(".")
        assert not any(word in sentence for word in OPERATOR_WORDS), sentence
    page = read("mpesa.html", mpesa(status=status))
    assert status.meaning in page.text("now")
    assert status.remedy in page.text("now")


@pytest.mark.parametrize("key", [*(f"warning.{one}" for one in BarWarning), *(f"method.{one}" for one in Method)])
def test_every_warning_and_method_has_words(key: str) -> None:
    """Issue 3: one catalogue, complete."""
    assert texts.text(key)


@pytest.mark.parametrize("key", [*(f"role.{one}" for one in Role), *(f"form.{one}" for one in Environment)])
def test_every_role_and_environment_has_words(key: str) -> None:
    """Issue 3: one catalogue, complete."""
    assert texts.text(key)


def test_every_text_can_be_put_together() -> None:
    """Issue 3, translation: each place in a text has a plain name and nothing else."""
    for key, sentence in texts.TEXTS.items():
        for _, place, form, conversion in string.Formatter().parse(sentence):
            assert place is None or place.isidentifier(), key
            assert not form, key
            assert not conversion, key


def test_a_name_with_braces_stays_as_it_is() -> None:
    """Issue 3, odd input: what stands in a place is never read as a text with places."""
    assert texts.text("menu.title", name="{bar.__class__}") == "How to pay at {bar.__class__}"


@pytest.mark.parametrize(("found", "tone"), [(facts(row()), "shown"), (CASES[Reason.SWITCHED_OFF], "off")])
def test_the_status_says_what_customers_see(found: BarFacts, tone: str) -> None:
    """Spec 5: one word and one colour; off on purpose is no trouble."""
    status = status_of(found)
    assert status.tone == tone
    assert status.word == ("Shown" if tone == "shown" else "Hidden")


def test_drift_is_trouble_and_never_shown_as_offered() -> None:
    """P5: where the two fields disagree customers see nothing, and the page says that something is wrong."""
    for reason in (Reason.DRIFT_HIDDEN, Reason.DRIFT_EXPOSED):
        assert status_of(CASES[reason]).tone == "trouble"
        assert status_of(CASES[reason]).word == "Hidden"


def test_drift_beside_another_reason_is_told_besides() -> None:
    """Spec 2: a bar without credentials whose flag still says on: both is said."""
    status = status_of(facts(mpesa_enabled=True))
    assert status.reason == Reason.NO_CREDENTIALS
    assert "switched off" in status.besides[0]


def test_an_unknown_answer_is_not_shown_as_offered() -> None:
    """Spec 2, fail closed."""
    assert status_view.status_unknown().tone == "unknown"
    assert not status_view.status_unknown().is_on


def test_both_fields_are_shown_as_they_are_stored() -> None:
    """Issue 3: the raw values, NULL said as NULL."""
    values = [field.value for field in status_of(facts(row(None), row(True, SANDBOX), mpesa_enabled=None)).fields]
    assert values == ["production: NULL, sandbox: true", "NULL"]


@pytest.mark.parametrize(
    ("found", "buttons"),
    [
        (facts(row()), [False]),
        (facts(row(False), mpesa_enabled=False), [True]),
        (facts(row(), mpesa_enabled=False), [True, False]),  # hidden: first what the staff have set
        (facts(row(False)), [False, True]),  # exposed: first off, in both places
        (facts(mpesa_enabled=True), [False]),  # exposed without credentials
        (facts(mpesa_enabled=False), []),
        (facts(row(False, secrets=SecretsState.MALFORMED), mpesa_enabled=False), []),
        (facts(row(True, secrets=SecretsState.UNREADABLE)), [False]),
        (facts(row(False, SANDBOX), mpesa_enabled=False), []),  # the sandbox is not allowed here
        (facts(row(True), row(True, SANDBOX)), [False]),
    ],
)
def test_the_switch_offers_what_will_not_be_refused(found: BarFacts, buttons: list[bool]) -> None:
    """R1, R5.4: no button for what the manager refuses; a drifted bar gets first the one that mends it."""
    switch = status_view.switch(found, allow_sandbox=False)
    assert [action.on for action in switch.actions] == buttons
    assert bool(switch.blocked) is (not buttons or (buttons == [False] and not found.rows))


def test_two_environments_are_asked_about() -> None:
    """R1: where the manager could not know which is meant, the page asks; production stands first."""
    found = facts(row(False, SANDBOX), row(False), mpesa_enabled=False)
    (action,) = status_view.switch(found, allow_sandbox=True).actions
    assert action.environments == ("production", "sandbox")
    page = read("mpesa.html", mpesa(switch=status_view.switch(found, allow_sandbox=True)))
    assert [option["value"] for option in page.all("option")] == ["production", "sandbox"]


@pytest.mark.parametrize(
    ("found", "paused", "words"),
    [
        (facts(row(False), mpesa_enabled=False), False, "Customers will see M-Pesa at once."),
        (facts(row(False), mpesa_enabled=False), True, "paused"),
        (facts(row(False), mpesa_enabled=False, active=False), False, "closed"),
        (facts(row(False, check=CheckOutcome.REJECTED), mpesa_enabled=False), False, "refused"),
    ],
)
def test_the_button_says_before_what_it_will_do(found: BarFacts, paused: bool, words: str) -> None:
    """Issue 3: the consequence, by the rule itself: switched on is not always seen."""
    (action,) = status_view.switch(found, allow_sandbox=False, paused=paused).actions
    assert words in action.consequence


def test_the_form_shows_what_is_stored_but_no_secret() -> None:
    """R4, secrets write-only: a stored secret is a placeholder, never a value, and the mask is not posted back."""
    page = read("mpesa.html", mpesa())
    for name in SECRET_FIELDS:
        (found,) = page.all("input", id=f"mpesa_{name}")
        assert found["type"] == "password"
        assert "value" not in found
        assert "stored" in found["placeholder"]
        assert found["autocomplete"] == "off"
        assert MASK not in found["placeholder"]
    assert page.all("input", id="mpesa_business_shortcode", value="600100")


def test_what_is_not_stored_has_no_placeholder() -> None:
    """R4: "leave empty to keep" is said only where there is something to keep."""
    form = form_view.form([Stored(Environment.PRODUCTION, "600100", secrets=frozenset({"passkey"}))])
    page = read("mpesa.html", mpesa(form=form))
    assert page.all("input", id="mpesa_consumer_key")[0]["placeholder"] == ""
    assert "stored" in page.all("input", id="mpesa_passkey")[0]["placeholder"]


def test_what_was_typed_is_kept_except_secrets() -> None:
    """R4.4: a refused form shows what was typed; a secret among it goes nowhere."""
    typed = {
        "mpesa_business_shortcode": "12x",
        "mpesa_environment": "sandbox",
        "mpesa_enabled": "true",
        "mpesa_passkey": "canary-passkey",
        "mpesa_consumer_key": "canary-key",
    }
    form = form_view.form([Stored(Environment.PRODUCTION, "600100")], typed=typed)
    page = read("mpesa.html", mpesa(form=form))
    assert page.all("input", id="mpesa_business_shortcode", value="12x")
    assert "checked" in page.all("input", name="mpesa_environment", value="sandbox")[0]
    assert "checked" in page.all("input", name="mpesa_enabled")[0]
    assert "canary" not in repr(form) + repr(page.elements)


def test_odd_typing_is_not_echoed() -> None:
    """Issue 3, odd input: invisible characters come back as an empty field."""
    assert form_view.form([], typed={"mpesa_business_shortcode": "12\u202e34"}).shortcode == ""
    assert len(form_view.form([], typed={"mpesa_till_number": "9" * 5000}).till_number) <= 40


def test_every_wrong_field_is_named_beside_it_and_at_the_top() -> None:
    """R4.4: each error leads to its field, and the field to its error."""
    form = form_with_errors()
    page = read("mpesa.html", mpesa(form=form))
    links = {found["href"] for found in page.all("a")}
    for error in form.errors:
        assert error.message in page.text("errors")
        assert page.text(f"{error.field}-error") == error.message
        assert f"#{error.field}" in links
        assert error.field in page.ids
    (field,) = page.all("input", id="mpesa_passkey")
    assert field["aria-invalid"] == "true"
    assert "mpesa_passkey-error" in field["aria-describedby"]
    assert "autofocus" in page.all("div", id="errors")[0]


@pytest.mark.parametrize(
    ("actor", "words"),
    [
        ("staff:asha", "asha"),
        ("operator:otieno", "otieno (operator)"),
        ("user:6f7d8a52-9f0e-5f0a-8c39-5a1d2f4b7c11", "a user of the platform"),
        ("guard", "guard"),
        ("", "another program"),
        (f"staff:{HOSTILE}", HOSTILE),
    ],
)
def test_who_changed_it_is_said_without_ids(actor: str, words: str) -> None:
    """Spec R4: an unknown author is "another program"; a user's id is nobody's business."""
    assert form_view.who(actor) == words
