"""`serve` as a real process: from nothing, on a database of one's own, and how it stops with streams open."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from mpesa_sync.demo.proxy import TcpProxy
from tests.support.cli import cli, environment
from tests.support.serving import served
from tests.support.venues import KEY, add_bar

KEYED: Final = {"MPESA_KMS_KEY": KEY.reveal()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_it_starts_from_nothing_and_stops_with_an_open_stream(tmp_path: Path, number: signal.Signals) -> None:
    """Issue 3, 5: the embedded server made from nothing; the stream says goodbye; nothing of it runs on."""
    async with served(tmp_path) as serving, httpx.AsyncClient(base_url=serving.url) as client:
        assert (await client.get("/readyz")).json() == {
            "ready": True,
            "checks": {"database": "ok", "feed": "ok (notices)", "reconciler": "ok (repair)"},
        }
        assert oct((tmp_path / ".mpesa-sync" / "kms.key").stat().st_mode & 0o777) == "0o600"
        assert oct((tmp_path / ".mpesa-sync" / "jwt.key").stat().st_mode & 0o777) == "0o600"
        made = cli("db", "status", "--json", cwd=tmp_path)
        assert made.code == 0, made.err
        with_bar = cli("explain", "nowhere", cwd=tmp_path)
        assert with_bar.code == 1
        absent = await client.get("/menu/nowhere", headers={"accept": "text/html"})
        assert absent.status_code == 404
        added = cli("staff", "add", "asha", "--operator", "--generate-password", cwd=tmp_path)
        assert added.code == 0, added.err
        assert await serving.stop(number) == 0
        assert "Stopping" in "".join(serving.said)
    again = cli("db", "status", cwd=tmp_path)
    assert again.code == 0, "the data is kept, and the embedded server starts anew"


async def test_open_streams_say_goodbye_on_sigterm(tmp_path: Path, sql: Any, database_url: str) -> None:
    """live.md, drain: `bye` with a time to come back, then the end, within the deadline."""
    bar = await add_bar(sql)
    async with served(tmp_path, url=database_url, **KEYED) as serving, httpx.AsyncClient(timeout=30) as client:
        path = f"{serving.url}/api/bars/{bar}/payment-methods/events"
        async with client.stream("GET", path) as stream:
            lines = stream.aiter_lines()
            async for line in lines:
                if line == "event: payment-methods":
                    break
            stopping = asyncio.create_task(serving.stop())
            events = [line.removeprefix("event: ") async for line in lines if line.startswith("event: ")]
            assert events[-1] == "bye"
            assert await stopping == 0


async def test_a_client_that_never_reads_does_not_stop_the_stop(tmp_path: Path, sql: Any, database_url: str) -> None:
    """live.md: the hard deadline."""
    bar = await add_bar(sql)
    async with served(tmp_path, url=database_url, **KEYED) as serving:
        host, port = serving.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.sendall(f"GET /api/bars/{bar}/payment-methods/events HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            assert silent.recv(15) == b"HTTP/1.1 200 OK"
            assert await serving.stop() == 0


def test_a_taken_port_is_said_with_its_remedy(tmp_path: Path, database_url: str) -> None:
    """Bad input and trouble: the port is named; nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = cli("serve", "--port", port, url=database_url, cwd=tmp_path, **KEYED)
    assert ended.code == 64
    assert f"port {port} on 127.0.0.1 is taken" in ended.err
    assert "MPESA_SYNC_HTTP_PORT" in ended.err
    assert not (tmp_path / ".mpesa-sync").exists()


def test_a_database_of_ones_own_must_have_been_prepared(tmp_path: Path, platform_url: str) -> None:
    """Spec 7: attached, nothing is made unasked."""
    ended = cli("serve", "--port", "0", url=platform_url, cwd=tmp_path, **KEYED)
    assert ended.code == 1
    assert "Run 'mpesa-sync db init' first." in ended.err


def test_a_database_of_ones_own_needs_the_key_of_its_secrets(tmp_path: Path, database_url: str) -> None:
    """Spec 2: without it M-Pesa would be hidden at every venue, and nobody would know why."""
    ended = cli("serve", "--port", "0", url=database_url, cwd=tmp_path)
    assert ended.code == 64
    assert "MPESA_KMS_KEY is not set" in ended.err


async def test_no_new_key_is_made_over_data_of_another(tmp_path: Path) -> None:
    """K: a lost key file is said, and not replaced: every stored secret would be unreadable."""
    async with served(tmp_path) as serving:
        assert await serving.stop() == 0
    key = tmp_path / ".mpesa-sync" / "kms.key"
    kept = key.read_text()
    key.unlink()
    ended = cli("serve", "--port", "0", cwd=tmp_path)
    assert ended.code == 64
    assert "key file kms.key is not there" in ended.err
    assert not key.exists()
    key.write_text(kept)
    key.chmod(0o600)
    async with served(tmp_path) as serving:
        assert await serving.stop() == 0


async def test_it_says_when_its_database_is_gone_and_offers_no_mpesa(
    tmp_path: Path, sql: Any, database_url: str
) -> None:
    """L6, spec 2: readiness fails, the customers' page is rendered with cash and without M-Pesa, and it heals."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    async with TcpProxy.before(database_url) as proxy:
        url = proxy.url_for(database_url)
        async with served(tmp_path, url=url, **KEYED) as serving, httpx.AsyncClient(base_url=serving.url) as client:
            assert await methods(client, bar) == ["mpesa", "cash"]
            await proxy.close_port()
            proxy.reset_all()
            await until(client, ready=False)
            answer = await client.get(f"/api/bars/{bar}/payment-methods")
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            page = await client.get(f"/menu/{bar}", headers={"accept": "text/html"})
            assert page.status_code == 503
            shown = page.text.partition("<template")[0]
            assert 'value="cash"' in shown
            assert 'value="mpesa"' not in shown
            await proxy.open_port()
            await until(client, ready=True)
            assert await methods(client, bar) == ["mpesa", "cash"]
            assert await serving.stop() == 0


async def methods(client: httpx.AsyncClient, bar: Any) -> list[str]:
    """Return what a bar's customers are offered, as the API says."""
    found = (await client.get(f"/api/bars/{bar}/payment-methods")).json()
    return [method["id"] for method in found["methods"]]


async def until(client: httpx.AsyncClient, *, ready: bool) -> None:
    """Ask until the process says that it is (not) ready."""
    async with asyncio.timeout(40):
        while (await client.get("/readyz")).json()["ready"] is not ready:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)


def patched(cwd: Path, patch: str, *arguments: str, url: str | None = None, **variables: str) -> tuple[int, str]:
    """Run the command line with `patch` done to the program first; return its exit code and what it printed."""
    script = f"import sys\nfrom mpesa_sync.web import server\n{patch}\nfrom mpesa_sync.cli.main import main\n"
    command = [sys.executable, "-c", f"{script}sys.exit(main(sys.argv[1:]))", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment(url, **variables), capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("how", ["return None", "raise OSError('canary')"])
def test_it_ends_with_1_when_its_http_server_ends(tmp_path: Path, database_url: str, how: str) -> None:
    """Issue 3: nobody waits for ever on a process that serves nothing."""
    patch = f"async def loop(self):\n    {how}\nserver._Server.main_loop = loop"
    code, said = patched(tmp_path, patch, "serve", "--port", "0", url=database_url, **KEYED)
    assert code == 1, said
    assert "The HTTP server has ended" in said
    assert "canary" not in said


def test_the_keys_that_it_makes_are_hidden_in_a_traceback(tmp_path: Path) -> None:
    """Spec K: also those that no setting names."""
    patch = (
        "from pathlib import Path\n"
        "def broken(*_):\n"
        "    raise RuntimeError(*(file.read_text().strip() for file in Path('.mpesa-sync').glob('*.key')))\n"
        "server.serving = broken"
    )
    code, said = patched(tmp_path, patch, "--debug", "serve", "--port", "0")
    assert code == 1
    assert "RuntimeError" in said
    keys = [file.read_text().strip() for file in (tmp_path / ".mpesa-sync").glob("*.key")]
    assert len(keys) == 2
    assert not [key for key in keys if key in said]


async def test_settings_that_are_wrong_are_all_said_at_once(tmp_path: Path) -> None:
    """Spec 7: before anything is started."""
    ended = cli("serve", cwd=tmp_path, MPESA_SYNC_HTTP_PORT="x", MPESA_SYNC_JWT_SECRET="short")
    assert ended.code == 64
    assert "MPESA_SYNC_HTTP_PORT" in ended.err
    assert "MPESA_SYNC_JWT_SECRET" in ended.err
    assert not (tmp_path / ".mpesa-sync").exists()
