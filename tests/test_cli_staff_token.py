"""`staff token`: bearer tokens for calls of the API, from the command line (issue 3)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.db import embedded
from mpesa_sync.db.pool import Database
from mpesa_sync.identity import token_key
from mpesa_sync.identity.tokens import Tokens
from mpesa_sync.secret import Secret
from tests.support.cli import cli
from tests.support.people import add_account


async def test_a_token_acts_as_its_account(database_url: str, db: Database) -> None:
    """Issue 3: alone on stdout, signed with the secret of the settings, for the time that was asked for."""
    account = await add_account(db)
    secret = generate_key()
    ended = cli(
        *("staff", "token", "asha", "--ttl-minutes", "15"),
        url=database_url,
        MPESA_SYNC_JWT_SECRET=secret.reveal(),
        MPESA_SYNC_JWT_ISSUER="https://auth.example",
    )
    assert ended.code == 0, ended.err
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", ended.out)
    assert "15 minutes" in ended.err
    reader = Tokens(secret, issuer="https://auth.example", audience="authenticated")
    assert (await reader.person_of(db, Secret(ended.out.strip()))).id == account.id
    assert secret.reveal() not in ended.out + ended.err


@pytest.mark.parametrize("minutes", ["0", "-1", "1441", "x"])
async def test_a_token_lasts_a_day_at_most(minutes: str, database_url: str) -> None:
    """Issue 3: it cannot be taken back, so that it must end."""
    ended = cli("staff", "token", "asha", f"--ttl-minutes={minutes}", url=database_url, MPESA_SYNC_JWT_SECRET="x" * 32)
    assert (ended.code, ended.out) == (64, "")


async def test_without_a_secret_there_is_no_token(database_url: str, db: Database) -> None:
    """Spec 6: 64, naming what to set."""
    await add_account(db)
    ended = cli("staff", "token", "asha", url=database_url)
    assert (ended.code, ended.out) == (64, "")
    assert "MPESA_SYNC_JWT_SECRET is not set" in ended.err


async def test_the_embedded_server_has_a_secret_of_its_own(tmp_path: Path) -> None:
    """Issue 3: nothing needs to be set: the key beside the data signs, and is what the server reads."""
    with embedded.start(tmp_path / ".mpesa-sync") as server:
        assert server.url
        assert cli("db", "init", cwd=tmp_path).code == 0
        assert cli("staff", "add", "asha", "--generate-password", cwd=tmp_path).code == 0
        first, second = (cli("staff", "token", "asha", cwd=tmp_path) for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.err
    secret = token_key.read(tmp_path / ".mpesa-sync")
    assert secret is not None
    assert secret.reveal() not in first.out + first.err
    for ended in (first, second):
        Tokens(secret, issuer=None, audience="authenticated")._subject(Secret(ended.out.strip()))
