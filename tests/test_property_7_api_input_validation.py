"""Property 7: whatever is posted, exactly the wrong fields are named, nothing is written, and nothing is repeated."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.secret import MASK
from tests.support.encodings import traces
from tests.support.observer import database_hash, see
from tests.support.venues import KEYS, add_bar
from tests.support.web import Asker, Site

PATH: Final = "/api/mpesa-settings"
SECRETS: Final = ("mpesa_consumer_key", "mpesa_consumer_secret", "mpesa_passkey")
NUMBERS: Final = ("mpesa_business_shortcode", "mpesa_till_number")
WRONG_TYPES: Final[dict[str, Callable[[str], Any]]] = {
    "a number": lambda c: 12345678,
    "a float": lambda c: 1.5,
    "true": lambda c: True,
    "a list": lambda c: [c],
    "an object": lambda c: {"value": c},
    "an empty list": lambda c: [],
}
WRONG_SECRETS: Final[dict[str, Callable[[str], Any]]] = {
    **WRONG_TYPES,
    "NUL": lambda c: f"{c}\0{c}",
    "a lone surrogate": lambda c: f"{c}\ud800{c}",
    "bidi": lambda c: f"{c}\u202e{c}",
    "zero-width": lambda c: f"{c}\u200b{c}",
    "a line end": lambda c: f"{c}\n{c}",
    "a space": lambda c: f"{c} {c}",
    "not ASCII": lambda c: f"{c}é",
    "Arabic digits": lambda c: f"{c}\u0661\u0662",
    "too short": lambda c: c[:9],
    "a placeholder": lambda c: "your_consumer_key_here",
    "another placeholder": lambda c: "xxxxxxxxxxxxxxxx",
    "the mask, where nothing is stored": lambda c: MASK,
    "a shorter mask": lambda c: MASK[:5],
    "blank": lambda c: " \t ",
    "too long": lambda c: c * 60,
    "far too long": lambda c: c * 300,
}
WRONG_NUMBERS: Final[dict[str, Callable[[str], Any]]] = {
    **WRONG_TYPES,
    "blank": lambda c: "",
    "four digits": lambda c: "6001",
    "eight digits": lambda c: "60012345",
    "letters": lambda c: c,
    "Arabic digits": lambda c: "\u0666\u0660\u0660\u0661\u0662\u0663",
    "full-width digits": lambda c: "\uff16\uff10\uff10\uff11\uff12\uff13",
    "a space inside": lambda c: "600 123",
    "a sign": lambda c: "+600123",
    "NUL": lambda c: "600123\0",
    "zero-width": lambda c: "600\u200b123",
    "the sandbox's": lambda c: "174379",
    "too long": lambda c: "1" * 1_500,
}
WRONG_WORDS: Final[dict[str, Callable[[str], Any]]] = {
    **WRONG_TYPES,
    "another word": lambda c: c,
    "capitals": lambda c: "PRODUCTION PAYBILL",
    "NUL": lambda c: "production\0",
}
WRONG_FLAGS: Final[dict[str, Callable[[str], Any]]] = {
    "the text false": lambda c: "false",
    "the text true": lambda c: "true",
    "zero": lambda c: 0,
    "one": lambda c: 1,
    "a list": lambda c: [c],
    "an object": lambda c: {},
    "an empty text": lambda c: "",
}
UNKNOWN: Final = {"mpesa_shortcode": "mpesa_shortcode", "mpesa_Passkey": "mpesa_Passkey", "mpesa_ü": "mpesa_…"}
"""Fields that there are not, and as what they are named."""
WRONG: Final[dict[str, dict[str, Callable[[str], Any]]]] = {
    **dict.fromkeys(SECRETS, WRONG_SECRETS),
    **dict.fromkeys(NUMBERS, WRONG_NUMBERS),
    "mpesa_environment": WRONG_WORDS,
    "mpesa_account_type": WRONG_WORDS,
    "mpesa_enabled": WRONG_FLAGS,
    **{name: {"anything": lambda c: c, "null": lambda c: None} for name in UNKNOWN},
}


def unbroken(*, till: bool) -> dict[str, Any]:
    """A valid body for a bar of which nothing is stored; new secrets every time."""
    return {
        "mpesa_enabled": True,
        "mpesa_environment": "production",
        "mpesa_business_shortcode": "600123",
        **(
            {"mpesa_account_type": "till", "mpesa_till_number": "712345"} if till else {"mpesa_account_type": "paybill"}
        ),
        **{name: canary() for name in SECRETS},
    }


def canary() -> str:
    """A well-formed secret that stands nowhere by chance."""
    return f"Zq7{secrets.token_urlsafe(21)}"


@st.composite
def breaks(draw: st.DrawFn) -> dict[str, str]:
    """Which fields are broken, and how. One secret at least stays a text, so that there is something to save."""
    fields = draw(st.sets(st.sampled_from(sorted(WRONG)), min_size=1, max_size=6))
    found = {field: draw(st.sampled_from(sorted(WRONG[field]))) for field in sorted(fields)}
    if set(SECRETS) <= found.keys():
        found[SECRETS[0]] = "too short"
    if found.keys() & {"mpesa_environment", "mpesa_account_type"}:
        # Then it is not known which of these applies: the sandbox's number in production, a till's number.
        for field in NUMBERS:
            if found.get(field) == "the sandbox's":
                found[field] = "letters"
        if "mpesa_account_type" in found:
            found.pop("mpesa_till_number", None)
    return found


async def posted(site: Site, who: Asker, bar: UUID, body: dict[str, Any]) -> Any:
    """Post a body, in ASCII: lone surrogates as JSON writes them."""
    content = json.dumps({"barId": str(bar), **body})
    return await site.client.post(
        PATH, content=content, headers={**who.headers, "content-type": "application/json; charset=utf-8"}
    )


@settings(max_examples=100, phases=[Phase.generate])
@given(broken=breaks(), till=st.booleans())
async def test_exactly_the_wrong_fields_are_named_and_nothing_is_written_or_repeated(
    site: Site, sql: Any, broken: dict[str, str], till: bool
) -> None:
    """Feature: mpesa-sync-fix, Property 7: API Input Validation.

    A valid body with any set of broken fields: 400, each wrong field named and no other, the whole database as before,
    and nothing of what was posted in the answer, in five encodings (R4.4).
    Red when a check stops at the first fault, when "false" counts as false or as true, when an unknown field is
    ignored, when the mask is stored, and when an error quotes what was sent.
    """
    await check(site, sql, broken, till=till)


async def test_every_single_breakage_is_named_alone(site: Site, sql: Any) -> None:
    """P7: each field broken in each way, by itself: what Hypothesis might leave out in a run."""
    for field, ways in WRONG.items():
        for how in ways:
            await check(site, sql, {field: how}, till=field == "mpesa_till_number")


async def check(site: Site, sql: Any, broken: dict[str, str], *, till: bool) -> None:
    """Post a valid body with these fields broken, and hold the answer and the database against that."""
    bar = await add_bar(sql)
    owner = await site.person(sql, bar)
    body, canaries = unbroken(till=till), [canary() for _ in broken]
    kept = [body[name] for name in SECRETS]
    broken = {field: how for field, how in broken.items() if field in body or field in UNKNOWN}
    for (field, how), word in zip(broken.items(), canaries, strict=False):
        body[field] = WRONG[field][how](word)
    before = await database_hash(sql)
    answer = await posted(site, owner, bar, body)
    if not broken:
        assert answer.status_code == 200
        return
    assert answer.status_code == 400, answer.text
    said = answer.json()
    expected = {UNKNOWN.get(field, field) for field in broken}
    assert {error["field"] for error in said["errors"]} == expected, broken
    assert len(said["errors"]) == len(expected), "each field once"
    assert {detail.partition(":")[0] for detail in said["details"]} == expected
    assert all(error["message"] and error["code"] for error in said["errors"])
    assert (said["retryable"], said["outcome"]) == (False, "failed")
    posted_texts = [value for field, value in body.items() if field in SECRETS and isinstance(value, str)]
    assert traces([*kept, *canaries, *posted_texts], answer.text + str(answer.headers)) == []
    assert await database_hash(sql) == before


@settings(max_examples=100, phases=[Phase.generate])
@given(
    till=st.booleans(),
    enabled=st.sampled_from((True, False, None)),
    environment=st.sampled_from(("sandbox", "production")),
    around=st.sampled_from(("", " ", "\t", "\r\n", "\u00a0", "\u2003 ")),
    stranger=st.dictionaries(
        st.from_regex("[a-z]{3,9}", fullmatch=True), st.none() | st.integers() | st.text(), max_size=3
    ),
)
async def test_a_valid_body_is_saved_as_it_was_meant(
    site: Site, sql: Any, till: bool, enabled: bool | None, environment: str, around: str, stranger: dict[str, Any]
) -> None:
    """P7: white space around pasted values is dropped, names that are not ours are not looked at."""
    bar = await add_bar(sql)
    owner = await site.person(sql, bar)
    body = unbroken(till=till) | {"mpesa_enabled": enabled, "mpesa_environment": environment}
    pasted = {name: f"{around}{v}{around}" if isinstance(v, str) else v for name, v in body.items()}
    answer = await posted(site, owner, bar, {**stranger, **pasted})
    assert answer.status_code == 200, answer.text
    row = await sql.fetchrow("select * from public.mpesa_credentials where tenant_id = $1", bar)
    assert (row["environment"], row["business_shortcode"]) == (environment, "600123")
    for name in SECRETS:
        assert open_stored(KEYS, row[f"{name.removeprefix('mpesa_')}_enc"]).secret.reveal() == body[name]
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled is True, bool(seen.active)) == (enabled is True, enabled is True)
    assert traces([body[name] for name in SECRETS], answer.text + str(answer.headers)) == []


async def test_a_body_of_a_mebibyte_is_refused_unread_and_unrepeated(site: Site, sql: Any) -> None:
    """Issue 3: 413 for one huge field and for many small ones, and nothing is written."""
    bar = await add_bar(sql)
    owner = await site.person(sql, bar)
    word = canary()
    before = await database_hash(sql)
    for body in ({"mpesa_passkey": word * 45_000}, {f"mpesa_{n}": word for n in range(30_000)}):
        answer = await posted(site, owner, bar, body)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert traces([word], answer.text) == []
    assert await database_hash(sql) == before
