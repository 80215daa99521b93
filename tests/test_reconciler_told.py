"""How the reconciler does is told: in the health of a process, in the metrics, by `db status`; its settings."""

from __future__ import annotations

from typing import Any

import pytest

from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.settings import Settings
from mpesa_sync.sync.reconciler import Policy, Reconciler, Rhythm
from tests.support.cli import cli
from tests.support.venues import add_bar
from tests.support.web import Site


async def test_a_late_sweep_is_said_and_takes_no_process_out(site: Site, sql: Any) -> None:
    """Spec 5: /readyz names the reconciler's age; where no worker runs the pages are served all the same."""
    await sql.execute("update mpesa_sync.reconciler set last_success = now() - interval '20 minutes'")
    answer = await site.client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["reconciler"]) == (200, "ok (repair)")
    await sql.execute("update mpesa_sync.reconciler set last_success = now() - interval '45 minutes'")
    answer = await site.client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert answer.json()["checks"]["reconciler"] == "degraded (repair): no sweep has ended for 45 minutes"
    await sql.execute("delete from mpesa_sync.reconciler")
    answer = await site.client.get("/readyz")
    assert answer.json()["checks"]["reconciler"] == "degraded (repair): no sweep has ended yet"


async def test_what_a_sweep_found_is_measured(site: Site, db: Database, sql: Any) -> None:
    """C: drift by direction, repairs, its age, its duration and its budget, as metrics."""
    await add_bar(sql, production=True)
    await add_bar(sql, mpesa_enabled=True)
    assert await Reconciler(db, Rhythm(second_look_s=0.0)).sweep() is not None
    lines = (await site.client.get("/metrics")).text.splitlines()
    found = {name: value for name, _, value in (line.rpartition(" ") for line in lines if "reconciler" in line)}
    assert found['mpesa_sync_reconciler_cycle_drift{direction="hidden"}'] == "1.0"
    assert found['mpesa_sync_reconciler_cycle_drift{direction="exposed"}'] == "1.0"
    assert found["mpesa_sync_reconciler_budget_used"] == "2.0"
    assert 0 <= float(found["mpesa_sync_reconciler_last_success_seconds_ago"]) < 60
    assert 0 <= float(found["mpesa_sync_reconciler_cycle_seconds"]) < 60
    assert float(found['mpesa_sync_reconciler_repairs_total{result="repaired"}']) >= 2
    assert float(found['mpesa_sync_reconciler_drift_total{direction="hidden"}']) >= 1


async def test_db_status_says_what_it_does_and_when(db: Database, database_url: str) -> None:
    """Spec 6: one line for people, the same for programs; the setting decides over the installation."""
    assert "no sweep yet" in cli("db", "status", url=database_url).out
    assert await Reconciler(db).sweep() is not None
    ended = cli("db", "status", "--json", url=database_url, MPESA_SYNC_RECONCILE="observe")
    assert set(ended.json["reconciler"]) == {"policy", "last_success", "next_run"}
    assert ended.json["reconciler"]["policy"] == "observe"
    assert ended.json["reconciler"]["last_success"] < ended.json["reconciler"]["next_run"]


def test_the_settings_are_two_words_and_a_number() -> None:
    """Spec 7: what is wrong is said by its name, without its content."""
    assert (Settings.load({}).reconcile, Settings.load({}).reconcile_budget) == (None, 100)
    said = Settings.load({"MPESA_SYNC_RECONCILE": " Repair", "MPESA_SYNC_RECONCILE_BUDGET": "0"})
    assert (said.reconcile, said.reconcile_budget) == ("repair", 0)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({"MPESA_SYNC_RECONCILE": "off", "MPESA_SYNC_RECONCILE_BUDGET": "many"})
    named = {fault.split()[0] for fault in caught.value.faults}
    assert named == {"MPESA_SYNC_RECONCILE_BUDGET", "MPESA_SYNC_RECONCILE"}


async def test_a_program_may_turn_it_off_and_nothing_else(database_url: str) -> None:
    """R1: `connect` takes what the setting takes, and `off`, as the demo does: its drift is there to be seen."""
    async with connect(database_url, reconcile="off") as database:
        assert database.reconcile == Policy.OFF.value
        assert await Reconciler(database).sweep() is None
    with pytest.raises(ConfigurationError, match="reconcile must be"):
        async with connect(database_url, reconcile="sometimes"):  # type: ignore[arg-type]  # that is the point
            pass
