"""Where `set_mpesa_status_v1` decides in SQL what the manager decides in Python, both say the same (R1)."""

from __future__ import annotations

import json
import sys
import unicodedata
from itertools import product
from typing import Any, Final

import asyncpg
import pytest

from mpesa_sync.crypto import usability
from mpesa_sync.crypto.cipher import seal
from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.domain.bars import CredentialsRow
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.environments import choose
from mpesa_sync.domain.inputs import line_of_text
from mpesa_sync.errors import (
    InvalidInput,
    MpesaSyncError,
    SyncRefused,
)
from mpesa_sync.secret import MASK, Secret
from tests.support.entry_point import REFUSALS, switch, undone
from tests.support.observer import see
from tests.support.states import ROWS
from tests.support.venues import KEYS, SEALED, SECRETS, add_bar

_LAST: Final = "insert into mpesa_sync.bar_state (bar_id, last_environment) values ($1, $2)"


async def test_sql_and_python_choose_the_same_environment_in_every_case(sql: Any) -> None:
    """R1: rows × flags × last environment, with none named; the refusals are the same, too."""
    seen = set()
    for sandbox, production, last in product(ROWS, ROWS, (None, *Environment)):
        present = {Environment.SANDBOX: sandbox, Environment.PRODUCTION: production}
        rows = [CredentialsRow(name, flag) for name, flag in present.items() if flag != "absent"]
        try:
            expected: str = choose(rows, last_active=last).value
        except MpesaSyncError as refusal:
            expected = REFUSALS[type(refusal)]
        async with undone(sql):
            bar = await add_bar(sql, sandbox=sandbox, production=production)
            if last:
                await sql.execute(_LAST, bar, last)
            try:
                async with sql.transaction():
                    found = (await switch(sql, bar))["environment"]
                after = await see(sql, bar)
                assert after is not None
                assert (after.active, after.mpesa_enabled) == ([found], True)
            except asyncpg.PostgresError as error:
                found = error.sqlstate
        assert found == expected, (sandbox, production, last)
        seen.add((sandbox, production, last))
    assert len(seen) == 48


_FORMS: Final = {
    "empty": b"",
    "truncated": SEALED[0][:27],
    "just a blob": bytes(range(128, 156)),
    "buffer": json.dumps({"type": "Buffer", "data": list(SEALED[0])}).encode(),
    "short buffer": json.dumps({"type": "Buffer", "data": [1, 2, 3]}).encode(),
    "odd buffer": b'{"type":"Buffer","data":[1,256,-1]}',
    "cut buffer": b'{"type":"Buffer","data":[12,34',
    "other object": b'{"a":1}',
    "hex": b"\\x" + SEALED[0].hex().encode(),
    "short hex": b"\\x" + b"ab" * 27,
    "odd hex": b"\\x" + SEALED[0].hex().encode()[:-1],
    "no hex": b"\\x" + b"zz" * 28,
    "cbc": b"ab" * 16 + b":" + b"cd" * 16,
    "plain": SECRETS[0].reveal().encode(),
    "mask": MASK.encode(),
    "blank": b"  ",
    "placeholder": b"your_consumer_key",
    "good": SEALED[0],
    "foreign key": seal(KeyRing.from_texts([generate_key()]), Secret("a-secret-of-another-key")),
}
_ONLY_A_KEY_TELLS: Final = {"just a blob", "foreign key"}


@pytest.mark.parametrize("field", ["consumer_key_enc", "consumer_secret_enc", "passkey_enc"])
async def test_secrets_that_cannot_serve_are_refused_as_far_as_stored_facts_tell(sql: Any, field: str) -> None:
    """R1, K: form by form as the manager judges it, but for what only a key can tell. No secret in the answer."""
    bar = await add_bar(sql, production=False)
    place = ["consumer_key_enc", "consumer_secret_enc", "passkey_enc"].index(field)
    said = ""
    for name, stored in _FORMS.items():
        secrets = [*SEALED[:place], stored, *SEALED[place + 1 :]]
        try:
            usability.require_usable(KEYS, secrets, Environment.PRODUCTION)
            expected = ""
        except SyncRefused as refusal:
            expected = REFUSALS[type(refusal)]
        async with undone(sql):
            await sql.execute(f"update public.mpesa_credentials set {field} = $1 where tenant_id = $2", stored, bar)
            try:
                async with sql.transaction():
                    assert (await switch(sql, bar))["changed"]
                found = ""
            except asyncpg.PostgresError as error:
                found, said = str(error.sqlstate), said + str(error.as_dict())
            assert (await switch(sql, bar, False))["environment"] is None, "off needs no secrets"
        assert found == ("" if name in _ONLY_A_KEY_TELLS else expected), name
    assert not any(
        stored.hex() in said or stored.decode("latin1") in said for stored in _FORMS.values() if stored.strip()
    )


async def test_sql_and_python_take_the_same_texts_for_an_actor(sql: Any) -> None:
    """faults.md 8: every character of Unicode, in the middle, and around a text; as long as may be."""

    def taken(text: str) -> str | None:
        try:
            return line_of_text("actor", text)
        except InvalidInput:
            return None

    characters = [
        chr(c) for c in range(1, sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cs", "Cn", "Co")
    ]
    texts = (
        [f"a{c}b" for c in characters] + [f"{c}a{c}" for c in characters if c.isspace()] + ["é" * 200, "é" * 201, ""]
    )
    found = await sql.fetchval(
        "select array_agg(mpesa_sync.line_of_text_v1(t) order by n) from unnest($1::text[]) with ordinality u (t, n)",
        texts,
    )
    differing = [
        (text, ours, theirs)
        for text, ours, theirs in zip(texts, map(taken, texts), found, strict=True)
        if ours != theirs
    ]
    assert differing == []
