"""Delay, silence, refusal and reset, and the clean end of the proxy itself (faults.md)."""

from __future__ import annotations

import asyncio
import socket

import asyncpg
import pytest

from mpesa_sync.demo.proxy import Fault, TcpProxy
from tests.support.proxy_bench import LOST, bench, run

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def test_a_delayed_answer_comes_late_and_whole(server_url: str) -> None:
    """The statement is done at once; only the next `times` answers are held back."""

    async def story() -> None:
        async with bench(server_url) as b:
            clock = asyncio.get_running_loop().time
            b.proxy.delay_answers(0.2, times=1)
            await (await b.connect()).close()
            assert not b.proxy.fired, "signing in is not delayed"
            start = clock()
            assert await b.connection.fetch("select generate_series(1, 3)") == [(1,), (2,), (3,)]
            assert clock() - start >= 0.2
            await b.connection.fetch("select generate_series(1, 3)")
            assert b.proxy.fired == {Fault.DELAY: 1}

    run(story())


def test_a_black_hole_times_out_and_neither_side_learns_of_the_other(server_url: str) -> None:
    """The server keeps the vanished client's lock, as it does for a vanished host (faults.md 5)."""

    async def story() -> None:
        async with bench(server_url) as b:
            pid = await b.connection.fetchval("select pg_backend_pid()")
            await b.connection.execute(f"begin; lock table {b.table}")
            b.proxy.black_hole()
            silent = socket.create_connection(("127.0.0.1", b.proxy.port))
            silent.sendall(SSL_REQUEST)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(b.connection.fetchval("select 1"), 0.2)
            with pytest.raises(TimeoutError):
                await b.connect(timeout_s=0.2)
            b.connection.terminate()
            held = "select count(*) from pg_locks where pid = $1 and mode = 'AccessExclusiveLock'"
            assert await b.direct.fetchval(held, pid) == 1
            assert b.proxy.fired[Fault.BLACK_HOLE] >= 2
            b.proxy.disarm()
            with silent, pytest.raises(ConnectionResetError):
                await asyncio.to_thread(silent.recv, 1)
            await b.settled()
            assert await b.direct.fetchval(held, pid) == 0
            again = await b.connect()
            assert await again.fetchval("select 1") == 1
            await again.close()

    run(story())


def test_refused_connections_are_reset_as_often_as_armed(server_url: str) -> None:
    """The first two attempts fail, the third is served."""

    async def story() -> None:
        async with bench(server_url) as b:
            b.proxy.refuse_connections(times=2)
            for _ in range(2):
                with pytest.raises(LOST):
                    await b.connect()
            await (await b.connect()).close()
            assert b.proxy.fired == {Fault.REFUSE: 2}

    run(story())


def test_a_closed_port_refuses_and_opens_again_under_the_same_number(server_url: str) -> None:
    """As when the server is stopped; connections that are open stay (fault: down at begin)."""

    async def story() -> None:
        async with bench(server_url) as b:
            port = b.proxy.port
            await b.proxy.close_port()
            with pytest.raises(ConnectionRefusedError):
                await b.connect()
            assert await b.connection.fetchval("select 1") == 1
            await b.proxy.open_port()
            assert b.proxy.port == port
            await (await b.connect()).close()

    run(story())


def test_reset_all_is_a_real_reset_of_every_connection(server_url: str) -> None:
    """RST and not FIN: a plain socket sees `ECONNRESET`, on the server the backend ends."""

    async def story() -> None:
        async with bench(server_url) as b:
            plain = socket.create_connection(("127.0.0.1", b.proxy.port))
            # An SSLRequest and its refusal prove that the proxy has taken this connection on.
            plain.sendall(SSL_REQUEST)
            assert await asyncio.to_thread(plain.recv, 1) == b"N"
            assert b.proxy.reset_all() == 2
            with plain, pytest.raises(ConnectionResetError):
                await asyncio.to_thread(plain.recv, 1)
            with pytest.raises(LOST):
                await b.connection.fetchval("select 1")
            await b.settled()
            assert b.proxy.fired == {Fault.RESET: 2}
            assert b.proxy.reset_all() == 0

    run(story())


def test_leaving_the_block_closes_what_is_open(server_url: str) -> None:
    """Open, swallowed and half-made connections leave no task and no warning behind."""

    async def story() -> None:
        async with TcpProxy.before(server_url) as proxy:
            connection = await asyncpg.connect(proxy.url_for(server_url))
            half = socket.create_connection(("127.0.0.1", proxy.port))
            proxy.black_hole()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.fetchval("select 1"), 0.1)
        half.close()
        connection.terminate()
        with pytest.raises(ConnectionRefusedError):
            await asyncpg.connect(proxy.url_for(server_url))

    run(story())


def test_a_server_that_is_not_there_resets_the_client() -> None:
    """The proxy stands before a closed port: its clients see a lost connection, never a hang."""

    async def story() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            async with TcpProxy("127.0.0.1", unused.getsockname()[1]) as proxy:
                with pytest.raises(LOST):
                    await asyncpg.connect(proxy.url_for("postgresql://u:p@ignored/db"), timeout=10)

    run(story())


def test_only_host_and_port_of_a_url_change() -> None:
    """User, password with its escapes, database and options stay as they were."""

    async def story() -> None:
        async with TcpProxy("127.0.0.1", 1) as proxy:
            url = proxy.url_for("postgresql://us%40er:p%3Aw%40d@[::1]:5433/db?application_name=x")
            assert url == (f"postgresql://us%40er:p%3Aw%40d@127.0.0.1:{proxy.port}/db?application_name=x")
            assert proxy.url_for("postgres:///db") == f"postgres://127.0.0.1:{proxy.port}/db"

    run(story())
