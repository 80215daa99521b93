"""Bearer tokens: the one kind that is accepted, and every other that is not (issue 3, existing-platform.md)."""

from __future__ import annotations

import base64
import hmac
import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import ConfigurationError, NotSignedIn
from mpesa_sync.identity import accounts, membership, token_key
from mpesa_sync.identity.people import Person, Role, Via
from mpesa_sync.identity.tokens import LONGEST_TOKEN, Tokens
from mpesa_sync.secret import Secret
from tests.support.people import add_account, quick_hashing
from tests.support.venues import add_bar

SECRET: Final = Secret(generate_key().reveal() * 2)  # long enough for HS512 too, so that only the name refuses it
SUBJECT: Final = UUID("7d3f0c52-4a1b-4c8e-9f6a-2b1d0e5c7a90")
RSA: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM: Final = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
REFUSED: Final = "Sign in, or send a bearer token that is valid."
Claims = dict[str, Any]


def claims(**more: Any) -> Claims:
    """Good claims, changed; a claim that is `...` is left out."""
    now = int(time.time())
    found = {"sub": str(SUBJECT), "aud": "authenticated", "exp": now + 60, "iat": now, **more}
    return {name: value for name, value in found.items() if value is not ...}


def signed(payload: Any, header: Any = None, secret: Secret = SECRET, digest: str = "sha256") -> str:
    """A token with any header and payload at all, rightly signed."""

    def part(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    body = f"{part({'alg': 'HS256', 'typ': 'JWT'} if header is None else header)}.{part(payload)}"
    proof = hmac.new(secret.reveal().encode(), body.encode(), digest).digest()
    return f"{body}.{base64.urlsafe_b64encode(proof).rstrip(b'=').decode()}"


def tokens(issuer: str | None = None, audience: str = "authenticated") -> Tokens:
    """The tokens of `SECRET`."""
    return Tokens(SECRET, issuer=issuer, audience=audience)


GOOD: Final[dict[str, Callable[[], str]]] = {
    "as the platform makes them": lambda: signed(claims()),
    "role and user_metadata are ignored": lambda: signed(
        claims(
            role="service_role", user_metadata={"role": "owner", "sub": str(uuid4())}, app_metadata={"operator": True}
        )
    ),
    "several audiences": lambda: signed(claims(aud=["other", "authenticated"])),
    "expired within the leeway": lambda: signed(claims(exp=int(time.time()) - 5)),
    "issued a little in the future": lambda: signed(claims(iat=int(time.time()) + 5)),
    "valid already": lambda: signed(claims(nbf=int(time.time()) - 1)),
    "without iat": lambda: signed(claims(iat=...)),
    "valid for a hundred years": lambda: signed(claims(exp=time.time() + 3e9)),
    "a fraction of a second": lambda: signed(claims(exp=time.time() + 60.5)),
    "any issuer where none is set": lambda: signed(claims(iss="https://elsewhere.example")),
    "a key id": lambda: signed(claims(), {"alg": "HS256", "kid": "one"}),
    "a subject in capitals": lambda: signed(claims(sub=str(SUBJECT).upper())),
}

BAD: Final[dict[str, Callable[[], str]]] = {
    "nothing": lambda: "",
    "a word": lambda: "token",
    "dots": lambda: "..",
    "many dots": lambda: "." * 4000,
    "the wrong secret": lambda: signed(claims(), secret=generate_key()),
    "no signature": lambda: signed(claims()).rpartition(".")[0] + ".",
    "a signature cut short": lambda: signed(claims())[:-4],
    "another payload under the signature": lambda: ".".join(
        [signed(claims()).split(".")[0], signed(claims(sub=str(uuid4()))).split(".")[1], signed(claims()).split(".")[2]]
    ),
    "alg none": lambda: jwt.encode(claims(), "", algorithm="none"),
    "alg none, rightly signed": lambda: signed(claims(), {"alg": "none"}),
    "alg NONE": lambda: signed(claims(), {"alg": "NoNe"}),
    "alg in small letters": lambda: signed(claims(), {"alg": "hs256"}),
    "alg absent": lambda: signed(claims(), {"typ": "JWT"}),
    "alg a list": lambda: signed(claims(), {"alg": ["HS256"]}),
    "alg an object": lambda: signed(claims(), {"alg": {"HS256": 1}}),
    "HS384": lambda: signed(claims(), {"alg": "HS384"}, digest="sha384"),
    "HS512": lambda: signed(claims(), {"alg": "HS512"}, digest="sha512"),
    "RS256 of a stranger": lambda: jwt.encode(claims(), RSA, algorithm="RS256"),
    "RS256 over an HMAC": lambda: signed(claims(), {"alg": "RS256"}),
    "a key of its own in the header": lambda: jwt.encode(
        claims(), "x" * 40, algorithm="HS256", headers={"jwk": {"kty": "oct", "k": "eHh4"}}
    ),
    "an unknown critical header": lambda: signed(claims(), {"alg": "HS256", "crit": ["b64"], "b64": False}),
    "a key id that is no text": lambda: signed(claims(), {"alg": "HS256", "kid": 7}),
    "a header that is a list": lambda: signed(claims(), ["HS256"]),
    "a header that is no JSON": lambda: signed(claims(), "{alg"),
    "a payload that is a list": lambda: signed([str(SUBJECT)]),
    "a payload that is no JSON": lambda: signed("{sub"),
    "a deep payload": lambda: signed("[" * 1400),
    "a huge number": lambda: signed('{"exp": 1' + "0" * 2000 + "}"),
    "expired": lambda: signed(claims(exp=int(time.time()) - 11)),
    "without exp": lambda: signed(claims(exp=...)),
    "exp null": lambda: signed(claims(exp=None)),
    "exp a text": lambda: signed(claims(exp=str(int(time.time()) + 60))),
    "exp true": lambda: signed(claims(exp=True)),
    "exp not a number": lambda: signed(claims(exp=float("nan"))),
    "exp without end": lambda: signed(claims(exp=float("inf"))),
    "exp a list": lambda: signed(claims(exp=[9999999999])),
    "not valid yet": lambda: signed(claims(nbf=int(time.time()) + 60)),
    "nbf a text": lambda: signed(claims(nbf="0")),
    "issued in the future": lambda: signed(claims(iat=int(time.time()) + 60)),
    "iat a text": lambda: signed(claims(iat="0")),
    "without sub": lambda: signed(claims(sub=...)),
    "sub null": lambda: signed(claims(sub=None)),
    "sub a number": lambda: signed(claims(sub=7)),
    "sub a name": lambda: signed(claims(sub="asha")),
    "sub in braces": lambda: signed(claims(sub="{" + str(SUBJECT) + "}")),
    "sub a urn": lambda: signed(claims(sub=SUBJECT.urn)),
    "sub without hyphens": lambda: signed(claims(sub=SUBJECT.hex)),
    "sub with a blank": lambda: signed(claims(sub=f"{SUBJECT} ")),
    "sub a list": lambda: signed(claims(sub=[str(SUBJECT)])),
    "without aud": lambda: signed(claims(aud=...)),
    "aud of another": lambda: signed(claims(aud="anon")),
    "aud empty": lambda: signed(claims(aud="")),
    "aud an empty list": lambda: signed(claims(aud=[])),
    "aud an object": lambda: signed(claims(aud={"authenticated": 1})),
    "aud with a number": lambda: signed(claims(aud=["authenticated", 7])),
    "aud in capitals": lambda: signed(claims(aud="AUTHENTICATED")),
    "too long": lambda: signed(claims(more="x" * LONGEST_TOKEN)),
    "a mebibyte": lambda: "x" * 1024 * 1024,
    "control characters": lambda: signed(claims()) + "\x00",
    "a line end": lambda: signed(claims()) + "\n",
    "a blank before": lambda: " " + signed(claims()),
    "letters of another script": lambda: signed(claims()) + "é",
    "half a character": lambda: signed(claims()) + "\ud800",
}


@pytest.mark.parametrize("name", GOOD)
async def test_a_token_of_the_platform_names_its_subject(name: str, db: Database) -> None:
    """existing-platform.md: HS256, aud, exp, sub; nothing that a user may write about themselves counts."""
    person = await tokens().person_of(db, Secret(GOOD[name]()))
    assert person == Person(SUBJECT, "", False, Via.TOKEN)
    assert person.actor == f"user:{SUBJECT}"


@pytest.mark.parametrize("name", BAD)
async def test_every_other_token_is_refused_in_the_same_words(name: str, db: Database) -> None:
    """Issue 3: whatever is wrong with it, one answer, and nothing of the token in it."""
    with pytest.raises(NotSignedIn) as refused:
        await tokens().person_of(db, Secret(BAD[name]()))
    assert type(refused.value) is NotSignedIn
    assert str(refused.value) == REFUSED
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


async def test_the_public_key_of_somebody_is_no_secret(db: Database) -> None:
    """Issue 3, algorithm confusion: such a setting is refused, and so is a token signed with it."""
    with pytest.raises(ConfigurationError, match="MPESA_SYNC_JWT_SECRET"):
        Tokens(Secret(PUBLIC_PEM.decode()), issuer=None, audience="authenticated")
    forged = signed(claims(), secret=Secret(PUBLIC_PEM.decode()))
    with pytest.raises(NotSignedIn):
        await tokens().person_of(db, Secret(forged))


@pytest.mark.parametrize(
    "text", ["", "x" * 31, '{"kty": "oct", "k": "' + "A" * 43 + '"}'], ids=["empty", "short", "JWK"]
)
def test_a_secret_that_is_none_is_refused(text: str) -> None:
    """Spec 7: named, without its content."""
    with pytest.raises(ConfigurationError) as refused:
        Tokens(Secret(text), issuer=None, audience="authenticated")
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize(
    ("issuer", "is_good"), [("https://auth.example", True), ("https://auth.example/", False), (..., False), (7, False)]
)
async def test_the_issuer_counts_where_one_is_set(issuer: Any, is_good: bool, db: Database) -> None:
    """Spec 7: MPESA_SYNC_JWT_ISSUER."""
    reader = tokens(issuer="https://auth.example")
    try:
        person = await reader.person_of(db, Secret(signed(claims(iss=issuer))))
    except NotSignedIn:
        assert not is_good
    else:
        assert is_good
        assert person.id == SUBJECT


async def test_a_token_made_here_is_read_here(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 3: `staff token`: with the issuer and the audience that the server asks for."""
    quick_hashing(monkeypatch)
    account = await add_account(db)
    operator = await add_account(db, "Juma", is_operator=True)
    maker = tokens("https://auth.example", "venues")
    minted = maker.mint(account.id, 60)
    assert await maker.person_of(db, minted) == Person(account.id, "Asha", False, Via.TOKEN)
    assert (await maker.person_of(db, maker.mint(operator.id, 60))).actor == "operator:Juma"
    with pytest.raises(NotSignedIn):
        await maker.person_of(db, maker.mint(account.id, -60))
    with pytest.raises(NotSignedIn):
        await tokens("https://auth.example").person_of(db, minted)
    assert minted.reveal() not in f"{minted!r} {maker!r} {vars(maker)['_issuer']}"
    assert SECRET.reveal() not in repr(maker)


async def test_the_token_of_a_removed_account_gives_no_rights(
    db: Database, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: it still names somebody, who belongs nowhere and is no operator."""
    quick_hashing(monkeypatch)
    bar = await add_bar(sql)
    account = await add_account(db, owner=bar)
    minted = tokens().mint(account.id, 60)
    async with db.reading() as connection:
        assert await membership.role_of(connection, await tokens().person_of(db, minted), bar) is Role.OWNER
    await accounts.remove(db, account)
    person = await tokens().person_of(db, minted)
    assert person == Person(account.id, "", False, Via.TOKEN)
    async with db.reading() as connection:
        assert await membership.bars_of(connection, person) == []


def test_the_secret_of_a_folder_is_made_once_and_private(tmp_path: Path) -> None:
    """Issue 3: 0600, the same for whoever asks next, and fit for HS256."""
    assert token_key.read(tmp_path) is None
    made = token_key.create(tmp_path)
    assert token_key.read(tmp_path) == token_key.create(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["jwt.key"]
    assert stat.S_IMODE((tmp_path / "jwt.key").stat().st_mode) == 0o600
    Tokens(made, issuer=None, audience="authenticated")


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """Spec K: as for the key of the stored secrets."""
    token_key.create(tmp_path)
    (tmp_path / "jwt.key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        token_key.create(tmp_path)
