"""Cuts at COMMIT and at statements, against a real PostgreSQL (faults.md, fault matrix).

A fault that silently does nothing would make every test that relies on it worthless: so here each
is seen to do its work, and to be counted.
"""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from mpesa_sync.demo.proxy import Fault
from mpesa_sync.demo.proxy_link import is_commit
from tests.support.proxy_bench import LOST, bench, run


def test_without_a_fault_everything_passes_and_is_counted(server_url: str) -> None:
    """Sign-in, parameters, COPY, notices and errors go through; messages are counted by type."""

    async def story() -> None:
        async with bench(server_url) as b:
            heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            await b.connection.add_listener("proxy_test", lambda *args: heard.set_result(args[3]))
            async with b.connection.transaction():
                await b.insert()
                await b.insert()
                await b.connection.execute("select pg_notify('proxy_test', 'hello')")
            await b.connection.copy_records_to_table(b.table, records=[(n,) for n in range(50_000)])
            with pytest.raises(asyncpg.DivisionByZeroError):
                await b.connection.fetchval("select 1 / 0")
            assert await b.rows() == 50_002
            assert await asyncio.wait_for(heard, 10) == "hello"
            assert b.proxy.commits == 1
            # LISTEN, BEGIN, 2 inserts, notify, COMMIT, COPY and the query that failed, at least.
            assert b.proxy.statements >= 8
            assert b.proxy.messages["E"] >= 3
            assert b.proxy.messages["B"] == b.proxy.messages["E"]
            assert not b.proxy.fired
            assert b.proxy.connections == 1

    run(story())


def test_cut_before_commit_commits_nothing(server_url: str) -> None:
    """The client sees a lost connection, and the row is absent (faults.md 1)."""

    async def story() -> None:
        async with bench(server_url) as b:
            b.proxy.cut_before_commit()
            with pytest.raises(LOST):
                async with b.connection.transaction():
                    await b.insert()
            assert b.proxy.fired == {Fault.CUT_BEFORE_COMMIT: 1}
            await b.settled()
            assert await b.rows() == 0

    run(story())


def test_cut_after_commit_commits_and_the_client_sees_an_error(server_url: str) -> None:
    """The same error for the client, and the row is there: this is why outcomes are unknown."""

    async def story() -> None:
        async with bench(server_url) as b:
            b.proxy.cut_after_commit()
            with pytest.raises(LOST):
                async with b.connection.transaction():
                    await b.insert()
            # At once, without waiting: the server had answered before the client saw the reset.
            assert await b.rows() == 1
            assert b.proxy.fired == {Fault.CUT_AFTER_COMMIT: 1}

    run(story())


@pytest.mark.parametrize("after", [False, True])
def test_a_prepared_commit_is_cut_too(server_url: str, after: bool) -> None:
    """In the extended protocol the execution counts, not the parsing (faults.md, fault matrix)."""

    async def story() -> None:
        async with bench(server_url) as b:
            commit = await b.connection.prepare("commit")
            await b.connection.execute("begin")
            await b.insert()
            (b.proxy.cut_after_commit if after else b.proxy.cut_before_commit)()
            with pytest.raises(LOST):
                await commit.fetch()
            await b.settled()
            assert await b.rows() == int(after)
            assert sum(b.proxy.fired.values()) == 1

    run(story())


@pytest.mark.parametrize("after", [False, True])
def test_the_nth_statement_with_a_text_in_it_is_cut(server_url: str, after: bool) -> None:
    """Outside a transaction the third row is there only where the cut came after it."""

    async def story() -> None:
        async with bench(server_url) as b:
            b.proxy.cut_statement("insert into", nth=3, after=after)
            await b.insert()
            await b.connection.fetchval("select 1")
            await b.insert()
            with pytest.raises(LOST):
                await b.insert()
            await b.settled()
            assert await b.rows() == 2 + after
            fault = Fault.CUT_AFTER_STATEMENT if after else Fault.CUT_BEFORE_STATEMENT
            assert b.proxy.fired == {fault: 1}

    run(story())


def test_a_cut_after_a_statement_waits_for_the_whole_answer(server_url: str) -> None:
    """Rows that arrive before the statement is done do not set it off: nothing would be stored."""

    async def story() -> None:
        async with bench(server_url) as b:
            b.proxy.cut_statement("returning", after=True)
            with pytest.raises(LOST):
                await b.connection.fetch(
                    f"insert into {b.table} select generate_series(1, $1::int) returning n", 200_000
                )
            assert await b.rows() == 200_000
            assert b.proxy.fired == {Fault.CUT_AFTER_STATEMENT: 1}

    run(story())


def test_a_cut_is_used_up_after_as_many_times_as_were_armed(server_url: str) -> None:
    """Twice armed, twice cut, over any connections; the third commit goes through."""

    async def story() -> None:
        async with bench(server_url) as b:
            b.proxy.cut_before_commit(times=2)
            for _ in range(2):
                with pytest.raises(LOST):
                    async with b.connection.transaction():
                        await b.insert()
                b.connection.terminate()
                b.connection = await b.connect()
            async with b.connection.transaction():
                await b.insert()
            assert b.proxy.fired == {Fault.CUT_BEFORE_COMMIT: 2}
            await b.settled()
            assert await b.rows() == 1

    run(story())


def test_a_disarmed_fault_does_nothing(server_url: str) -> None:
    """What is taken back never fires (R5.3: a proof that counts must start from zero)."""

    async def story() -> None:
        async with bench(server_url) as b:
            b.proxy.cut_before_commit()
            b.proxy.cut_statement("insert")
            b.proxy.delay_answers(60)
            b.proxy.refuse_connections()
            b.proxy.disarm()
            async with b.connection.transaction():
                await b.insert()
            await (await b.connect()).close()
            assert await b.rows() == 1
            assert not b.proxy.fired

    run(story())


@pytest.mark.parametrize(
    ("sql", "commits"),
    [
        ("COMMIT;", True),
        ("commit work", True),
        (" COMMIT TRANSACTION ; ", True),
        ("COMMIT AND CHAIN", True),
        ("END;", True),
        ("begin; update t set x = 1; commit", True),
        ("COMMIT PREPARED 'x'", False),
        ("ROLLBACK", False),
        ("select 'commit'", False),
        ("select committed from t", False),
        ("do $$ begin perform 1; end; $$", False),
        ("select case when a then b end", False),
    ],
)
def test_a_commit_is_recognised_by_its_text(sql: str, commits: bool) -> None:
    """All spellings that end a transaction, and none that only look like it."""
    assert is_commit(sql) is commits
