"""What `find_inconsistent_records` says of each drifted bar: why, and from which rows in which version (R2.1)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from mpesa_sync import InconsistentRecord, MpesaMigrationService
from mpesa_sync.db import detection
from mpesa_sync.db.pool import Database, connect
from tests.support import databases
from tests.support.migrating import drift
from tests.support.observer import database_hash
from tests.support.venues import add_bar

_ROWS: Final = """
select c.id, c.xmin::text::bigint as version from public.mpesa_credentials c where c.tenant_id = $1 order by c.id
"""
_VERSION: Final = "select xmin::text::bigint from public.bars where id = $1"


async def found(database: Database) -> dict[UUID, InconsistentRecord]:
    service = MpesaMigrationService(database)
    return {record.bar_id: record async for record in service.find_inconsistent_records()}


async def test_each_record_says_why_and_from_which_rows(db: Database, sql: Any) -> None:
    """R2.1: the rows' ids and versions are those in the database; looking writes nothing.

    Red with the versions in another order than the ids, with credentials of all bars, with `xmin` of the facts.
    """
    hidden = await add_bar(sql, mpesa_enabled=None, sandbox=False, production=True)
    exposed = await add_bar(sql, mpesa_enabled=True, sandbox=None)
    empty = await add_bar(sql, mpesa_enabled=True)
    await add_bar(sql, mpesa_enabled=True, production=True)
    await sql.execute("update public.mpesa_credentials set business_shortcode = '600124' where environment = 'sandbox'")
    before = await database_hash(sql)
    records = await found(db)
    assert await database_hash(sql) == before
    reasons = {hidden: "drift_hidden", exposed: "drift_exposed", empty: "no_credentials"}
    assert {bar_id: record.reason for bar_id, record in records.items()} == reasons
    for bar_id, record in records.items():
        rows = await sql.fetch(_ROWS, bar_id)
        assert list(record.credential_ids) == [row["id"] for row in rows]
        assert list(record.credential_versions) == [row["version"] for row in rows]
        assert record.bar_version == await sql.fetchval(_VERSION, bar_id)
    assert len(records[hidden].credential_ids) == 2
    assert len(set(records[hidden].credential_versions)) == 2


async def test_a_row_that_was_written_since_has_another_version(db: Database, sql: Any) -> None:
    """R2.1: of the row that was written, and of no other; a lock is no write."""
    bar, other = await drift(sql, 2)
    before = await found(db)
    await sql.execute("update public.mpesa_credentials set business_shortcode = '1' where tenant_id = $1", bar)
    await sql.execute("select 1 from public.bars where id = $1 for update", bar)
    after = await found(db)
    assert after[bar].credential_versions != before[bar].credential_versions
    assert (after[bar].bar_version, after[bar].credential_ids) == (before[bar].bar_version, before[bar].credential_ids)
    assert after[other] == before[other]
    await sql.execute("update public.bars set name = 'Another' where id = $1", bar)
    assert (await found(db))[bar].bar_version != after[bar].bar_version


async def test_nothing_of_ours_and_the_smallest_shape_suffice(platform_url: str) -> None:
    """existing-platform.md: a database that is not attached, without a single optional column."""
    async with databases.plain(platform_url) as sql, connect(platform_url) as database:
        [bar] = await drift(sql, 1)
        await sql.execute(
            "drop trigger bars_updated_at on public.bars; alter table public.bars drop column slug, "
            "drop column active, drop column payment_cash_enabled, drop column payment_card_enabled, "
            "drop column mpesa_environment, drop column updated_at"
        )
        record = (await found(database))[bar]
        assert (record.slug, record.last_updated, record.reason) == (None, None, "drift_hidden")
        assert record.bar_version == await sql.fetchval(_VERSION, bar)


async def test_a_plan_says_the_same_of_its_bars(db: Database, sql: Any) -> None:
    """R2: what `plan` returns is what `find_inconsistent_records` gives."""
    await drift(sql, 3)
    _, planned = await MpesaMigrationService(db).plan()
    assert {record.bar_id: record for record in planned} == await found(db)


async def test_the_versions_are_asked_for_the_drifted_bars_alone(sql: Any) -> None:
    """Spec 8: what `check` reads is read without them, and they cost for what has drifted.

    Red with the aggregate joined before the bars in sync are left out.
    """
    await drift(sql, 3)
    for _ in range(7):
        await add_bar(sql, mpesa_enabled=True, production=True)
    assert "xmin" not in detection.DRIFT
    explained = "explain (analyze, format json) " + detection.DRIFT_WITH_VERSIONS.replace("$1", "true")
    [whole] = json.loads(await sql.fetchval(explained))
    aggregates = [node for node in nodes(whole["Plan"]) if node["Node Type"] == "Aggregate"]
    per_bar = [node["Actual Loops"] for node in aggregates if node["Actual Loops"] > 1]
    assert per_bar == [3], aggregates


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)
