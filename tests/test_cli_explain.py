"""`explain`: facts, rule, verdict, remedy, last change and open alerts of one bar, on one screen (spec 6)."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.crypto.cipher import seal
from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.availability import BarWarning, Reason
from mpesa_sync.domain.remedies import REASONS, WARNINGS, for_bar
from mpesa_sync.secret import MASK, Secret
from tests.support.cli import Ended, cli
from tests.support.observer import database_hash
from tests.support.venues import KEY, KEYS, SEALED, SECRETS, add_bar

KEY_TEXT = KEY.reveal()


def _explain(bar: UUID, url: str, *, key: str | None = KEY_TEXT, **more: str) -> Any:
    if key:
        more["MPESA_KMS_KEY"] = key
    ended = cli("explain", str(bar), "--json", url=url, cwd=None, **more)
    assert ended.code == 0, ended.err
    return ended.json


def _no_secret(ended: Ended) -> None:
    for secret in (*SECRETS, KEY):
        assert secret.reveal() not in ended.out + ended.err


@pytest.mark.parametrize("advice", [REASONS, WARNINGS], ids=["reasons", "warnings"])
def test_every_state_has_a_meaning_and_a_remedy(advice: dict[Any, Any]) -> None:
    """Spec 6: explain knows a remedy for whatever the rule can answer."""
    assert set(advice) in ({*Reason}, {*BarWarning})
    for sentences in advice.values():
        assert sentences.meaning.endswith(".")
        assert sentences.remedy.endswith(".")


def test_a_remedy_names_the_bar_that_was_asked_for() -> None:
    """Spec 6: a remedy is a command that can be copied."""
    assert for_bar("Run 'mpesa-sync repair BAR'.", "mama-njeri") == "Run 'mpesa-sync repair mama-njeri'."


async def test_the_json_is_the_whole_story(database_url: str, sql: Any) -> None:
    """Spec 6: facts → rule → verdict → remedy → last change, for a program."""
    bar = await add_bar(sql, mpesa_enabled=False, sandbox=False, production=True)
    found = _explain(bar, database_url)
    good = {"consumer_key": "good", "consumer_secret": "good", "passkey": "good"}
    assert found == {
        "bar": {"id": str(bar), "slug": bar.hex, "name": f"Bar {bar.hex[:6]}"},
        "facts": {
            "mpesa_enabled": False,
            "active": True,
            "credentials": [
                {"environment": "sandbox", "is_active": False, "secrets": "usable", "verdicts": good},
                {"environment": "production", "is_active": True, "secrets": "usable", "verdicts": good},
            ],
            "payment_mpesa_enabled": None,
            "mpesa_environment": "sandbox",
            "bar_holds_secrets": False,
            "allow_sandbox": True,
        },
        "rule": {"authority": True, "shown": False, "consistent": False, "direction": "hidden"},
        "verdict": {
            "mpesa_offered": False,
            "reason": "drift_hidden",
            "meaning": REASONS[Reason.DRIFT_HIDDEN].meaning,
            "remedy": for_bar(REASONS[Reason.DRIFT_HIDDEN].remedy, str(bar)),
            "other_methods": ["cash"],
            "secrets_judged": True,
        },
        "warnings": [
            {
                "code": "environment_differs",
                "meaning": WARNINGS[BarWarning.ENVIRONMENT_DIFFERS].meaning,
                "remedy": WARNINGS[BarWarning.ENVIRONMENT_DIFFERS].remedy,
            }
        ],
        "history": {"state": "known", "last_change": None, "alerts": []},
    }


async def test_drift_is_told_also_where_another_reason_comes_first(database_url: str, sql: Any) -> None:
    """Spec 2: no credentials and still shown by older pages; the remedy is more than waiting for credentials."""
    bar = await add_bar(sql, mpesa_enabled=True)
    await sql.execute("update bars set slug = 'two words' where id = $1", bar)
    ended = cli("explain", "two words", "--json", url=database_url)
    verdict = ended.json["verdict"]
    assert verdict["reason"] == "no_credentials"
    assert f"'mpesa-sync repair {bar}'" in verdict["remedy"]


async def test_an_offered_bar_is_said_to_be_offered(database_url: str, sql: Any) -> None:
    """Spec 2: in sync, usable secrets, active bar: M-Pesa is offered."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    ended = cli("explain", bar.hex, url=database_url, MPESA_KMS_KEY=KEY_TEXT)
    assert ended.code == 0
    assert "By the rule customers are to be offered M-Pesa." in ended.out
    _no_secret(ended)


SECRETS_CASES = [
    pytest.param(SEALED, "usable", None, id="good"),
    pytest.param((SEALED[0], SEALED[1], b""), "missing", "secrets_malformed", id="missing"),
    pytest.param((SEALED[0], SEALED[1], SEALED[2][:20]), "unreadable", "secrets_unreadable", id="truncated"),
    pytest.param((seal(KEYS, Secret(MASK)), *SEALED[1:]), "malformed", "secrets_malformed", id="the mask"),
    pytest.param((b"plain-text-consumer-key", *SEALED[1:]), "unreadable", "secrets_unreadable", id="plain text"),
]


@pytest.mark.parametrize(("sealed", "state", "reason"), SECRETS_CASES)
async def test_stored_secrets_are_judged_with_the_key(
    sealed: tuple[bytes, bytes, bytes], state: str, reason: str | None, database_url: str, sql: Any
) -> None:
    """Spec 2, K: what hides M-Pesa behind two flags that agree."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True, sealed=sealed)
    found = _explain(bar, database_url)
    assert found["facts"]["credentials"][0]["secrets"] == state
    assert found["verdict"]["reason"] == reason
    assert found["verdict"]["mpesa_offered"] is (reason is None)


async def test_without_a_key_secrets_are_not_judged_and_that_is_said(database_url: str, sql: Any) -> None:
    """K: a missing key is told apart; nothing is claimed that was not looked at."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    found = _explain(bar, database_url, key=None)
    assert found["verdict"]["mpesa_offered"] is None
    assert found["verdict"]["secrets_judged"] is False
    ended = cli("explain", bar.hex, url=database_url)
    assert "not judged, for lack of a key (MPESA_KMS_KEY is not set)" in ended.out


async def test_a_key_that_opens_nothing_is_told_apart(database_url: str, sql: Any) -> None:
    """K: a well-formed key of another system, not to be confused with a missing or a mistyped one."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    ended = cli("explain", bar.hex, url=database_url, MPESA_KMS_KEY=generate_key().reveal())
    assert ended.code == 0
    assert "opens none of this bar's secrets" in " ".join(ended.out.split())
    one_bad = await add_bar(sql, mpesa_enabled=True, production=True, sealed=(SEALED[0], SEALED[1], SEALED[2][:-1]))
    ended = cli("explain", one_bad.hex, url=database_url, MPESA_KMS_KEY=KEY_TEXT)
    assert "opens none" not in ended.out
    assert "passkey unopenable" in ended.out


async def test_a_key_of_the_wrong_length_is_refused(database_url: str, sql: Any) -> None:
    """K, spec 7: wrong length, by name, exit code 64."""
    bar = await add_bar(sql)
    ended = cli("explain", bar.hex, url=database_url, MPESA_KMS_KEY=KEY_TEXT + "\n")
    assert (ended.code, ended.out) == (64, "")
    assert "MPESA_KMS_KEY has 33 characters" in ended.err
    _no_secret(ended)


async def test_an_old_key_counts(database_url: str, sql: Any) -> None:
    """K: all keys decrypt."""
    old = generate_key()
    sealed = tuple(seal(KeyRing.from_texts([old]), secret) for secret in SECRETS)
    bar = await add_bar(sql, mpesa_enabled=True, production=True, sealed=(sealed[0], sealed[1], sealed[2]))
    more = {"MPESA_SYNC_OLD_KMS_KEYS": f'["{old.reveal()}"]'}
    assert _explain(bar, database_url, **more)["verdict"]["mpesa_offered"] is True


async def test_the_sandbox_is_judged_by_the_setting(database_url: str, sql: Any) -> None:
    """Spec 2: MPESA_SYNC_ALLOW_SANDBOX; without it, as the installation says (greenfield: yes)."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    assert _explain(bar, database_url)["verdict"]["mpesa_offered"] is True
    found = _explain(bar, database_url, MPESA_SYNC_ALLOW_SANDBOX="false")
    assert found["verdict"]["reason"] == "sandbox_not_allowed"
    assert [warning["code"] for warning in found["warnings"]] == ["sandbox_active"]


async def test_the_last_change_is_told_and_whether_it_still_holds(database_url: str, db: Database, sql: Any) -> None:
    """Spec 6: who, when, what; and whether another program has changed it since."""
    bar = await add_bar(sql, production=False)
    await MpesaSyncManager(db).sync_mpesa_status(bar, True, actor="Asha", reason="opening day")
    change = _explain(bar, database_url)["history"]["last_change"]
    assert (change["actor"], change["kind"], change["reason"]) == ("Asha", "switch", "opening day")
    assert (change["mpesa_enabled_before"], change["mpesa_enabled_after"]) == (False, True)
    assert change["changed_since"] is False
    said = cli("explain", bar.hex, url=database_url).out
    assert f"operation {change['operation_id']}" in said, "also where nothing is known of the address"
    await MpesaSyncManager(db).sync_mpesa_status(bar, True, actor="a no-op")
    await sql.execute("update bars set mpesa_enabled = false where id = $1", bar)
    change = _explain(bar, database_url)["history"]["last_change"]
    assert (change["actor"], change["changed_since"]) == ("Asha", True)


async def test_a_correction_by_a_migration_is_a_change(database_url: str, sql: Any) -> None:
    """Spec 6: the migration's journal is part of the history."""
    bar, run = await add_bar(sql, mpesa_enabled=True, production=True), uuid4()
    await sql.execute("insert into mpesa_sync.migration_runs (id, actor) values ($1, 'Otieno')", run)
    await sql.execute(
        "insert into mpesa_sync.migration_journal (run_id, bar_id, previous, current) values ($1, $2, null, true)",
        run,
        bar,
    )
    change = _explain(bar, database_url)["history"]["last_change"]
    assert (change["actor"], change["kind"], change["operation_id"]) == ("Otieno", "migration", str(run))
    assert (change["mpesa_enabled_before"], change["mpesa_enabled_after"]) == (None, True)


async def test_open_alerts_are_shown_and_resolved_ones_are_not(database_url: str, sql: Any) -> None:
    """R5.2: an operator sees what waits for a person."""
    bar = await add_bar(sql)
    for kind, state in (("sync_failed", "firing"), ("database_refused", "resolved")):
        await sql.execute(
            "insert into mpesa_sync.alerts (bar_id, kind, state, cause, what_to_do) values ($1, $2, $3, 'c', 'Look.')",
            bar,
            kind,
            state,
        )
    assert [alert["kind"] for alert in _explain(bar, database_url)["history"]["alerts"]] == ["sync_failed"]
    assert "sync_failed, firing, 1 time" in cli("explain", bar.hex, url=database_url).out


async def test_everything_fits_one_screen(database_url: str, db: Database, sql: Any) -> None:
    """Spec 6: on one screen of 80 by 24, also where a lot is to be said."""
    bar = await add_bar(sql, sandbox=True, production=False)
    await MpesaSyncManager(db).sync_mpesa_status(bar, True, environment="production", actor="Asha")
    await sql.execute("update bars set mpesa_enabled = null, active = false where id = $1", bar)
    await sql.execute("update mpesa_credentials set is_active = true where tenant_id = $1", bar)
    ended = cli("explain", bar.hex, url=database_url, MPESA_KMS_KEY=KEY_TEXT)
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24, ended.out


async def test_it_needs_nothing_of_ours_installed(platform_url: str) -> None:
    """Spec 6: explain needs no `db init`; there is just no history then."""
    connection = await asyncpg.connect(platform_url)
    try:
        bar = await add_bar(connection, mpesa_enabled=True, production=True)
        before = await database_hash(connection)
        assert _explain(bar, platform_url)["history"] == {"state": "not_installed", "last_change": None, "alerts": []}
        assert await database_hash(connection) == before
    finally:
        await connection.close()


async def test_an_unknown_bar_is_1(database_url: str) -> None:
    """Spec 6: nothing is said of a bar that is not here."""
    ended = cli("explain", "nowhere", url=database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "There is no bar with the id or slug" in ended.err
