"""`mpesa-sync demo` as a real process: what it prints works as printed, and it ends when it is told to."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from mpesa_sync.db import embedded
from tests.support.cli import cli, environment
from tests.support.demo import demo

_START_S: Final = 60.0
_STOP_S: Final = 20.0
_LAST: Final = "Serving until Ctrl-C"


@dataclass
class Running:
    """A demo that serves: the process, and what it has printed on stdout until it was ready."""

    process: asyncio.subprocess.Process
    out: str
    folder: Path

    def found(self, pattern: str) -> str:
        """Return what was printed at a place."""
        match = re.search(pattern, self.out)
        assert match, self.out
        return match[1]

    @property
    def url(self) -> str:
        return self.found(r"URL=(\S+)")

    @property
    def password(self) -> str:
        return self.found(r"Password: (\S+)")

    async def ended(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal; return the exit code, and what was printed on stdout and stderr from then on."""
        self.process.send_signal(number)
        async with asyncio.timeout(_STOP_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def running(folder: Path, port: int = 0) -> AsyncIterator[Running]:
    """Serve the demo in a folder until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mpesa_sync", "demo"),
        cwd=folder,
        env=environment(MPESA_SYNC_HTTP_PORT=str(port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        out = ""
        async with asyncio.timeout(_START_S):
            while _LAST not in out:
                line = await process.stdout.readline()
                assert line, f"it ended: {out}"
                out += line.decode()
        yield Running(process, out, folder)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_what_it_prints_works_as_printed(tmp_path: Path) -> None:
    """Issue 3: links, name and password, ready curl lines, commands; on the port that was asked for.

    Then SIGTERM with a page open: the page is told to come back, and nothing is left running (issue 3, serve).
    """
    port = free_port()
    async with running(tmp_path, port) as it:
        assert it.url == f"http://127.0.0.1:{port}"
        assert "of these 12 sample venues 4 have drifted apart" in " ".join(it.out.split()).lower()
        assert len(it.out.splitlines()) <= 36
        async with httpx.AsyncClient(follow_redirects=True, headers={"accept": "text/html"}) as browser:
            for link in re.findall(r"^  (http\S+)", it.out, re.MULTILINE):
                assert (await browser.get(link)).status_code == 200, link
            name = it.found(r"Staff name: (\S+)")
            signed_in = await browser.post(f"{it.url}/staff/sign-in", data={"name": name, "password": it.password})
            assert "Baraka Lounge" in signed_in.text
        await _curl_lines_work(it)
        await _commands_work(it)
        async with (
            httpx.AsyncClient() as client,
            client.stream("GET", f"{it.url}/api/bars/mama-njeri/payment-methods/events", timeout=_STOP_S) as stream,
        ):
            lines = stream.aiter_lines()
            assert await anext(lines)
            started = time.monotonic()
            ending = asyncio.create_task(it.ended(signal.SIGTERM))
            rest = [line async for line in lines]
            code, out, err = await ending
        assert code == 0, err
        assert "event: bye" in rest
        assert time.monotonic() - started < _STOP_S
    assert not embedded.is_running(tmp_path / ".mpesa-sync")
    assert f"{it.out}{out}".count(it.password) == 1
    assert it.password not in err
    logs = [path for path in (tmp_path / ".mpesa-sync").rglob("*") if path.is_file() and "log" in path.name]
    assert logs
    assert not any(it.password.encode() in path.read_bytes() for path in logs)


async def _curl_lines_work(it: Running) -> None:
    script = it.found(r"(?s)paste the first line first\)\n(.*?)\n\n")
    assert script.count("curl ") == 4
    endless = script.index("  curl -N")
    if shutil.which("curl") is None:
        await _the_same_without_curl(it)
        return
    answers = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-ec", script[:endless].replace("curl ", "curl -sS -f -w '\\n' ")],
        capture_output=True,
        text=True,
        timeout=_STOP_S,
    )
    assert answers.returncode == 0, answers.stderr
    read, saved, offered = answers.stdout.splitlines()
    assert '"mpesa_enabled":false' in read
    assert '"bar_status_updated":true' in saved
    assert '"id":"mpesa"' in offered
    first_line = script.splitlines()[0]
    stream = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", first_line + "\n" + script[endless:].replace("curl -N", "curl -sS -N --max-time 1")],
        capture_output=True,
        text=True,
        timeout=_STOP_S,
    )
    assert "event: payment-methods" in stream.stdout


async def _the_same_without_curl(it: Running) -> None:
    headers = {"authorization": f"Bearer {it.found(r'TOKEN=(.*)')}"}
    bar = it.found(r"BAR=(\S+)")
    async with httpx.AsyncClient(base_url=it.url, headers=headers) as client:
        read = await client.get("/api/mpesa-settings", params={"barId": bar})
        saved = await client.post("/api/mpesa-settings", json={"barId": bar, "mpesa_enabled": True})
        offered = await client.get(f"/api/bars/{bar}/payment-methods")
    assert read.json()["settings"]["mpesa_enabled"] is False
    assert saved.json()["sync_status"]["bar_status_updated"] is True
    assert offered.json()["methods"][0]["id"] == "mpesa"


async def _commands_work(it: Running) -> None:
    printed = re.findall(r"^  \S+ -m mpesa_sync (.+?)  ", it.out, re.MULTILINE)
    commands = ["check", "explain baraka-lounge", "repair baraka-lounge", "migrate", "alerts list", "demo --check"]
    assert printed == commands
    expected = dict.fromkeys(commands[:-1], 0) | {"check": 2}
    for line, code in expected.items():
        more = ["--yes"] if line == "migrate" else []
        ended = await asyncio.to_thread(cli, *line.split(), *more, cwd=it.folder)
        assert ended.code == code, (line, ended.out, ended.err)
    assert (await asyncio.to_thread(cli, "check", cwd=it.folder)).code == 0


async def test_another_port_where_that_one_is_taken_and_a_second_demo_is_told(tmp_path: Path) -> None:
    """It says which port it took; Ctrl-C ends it as SIGTERM does; two demos in one folder do not disturb each other."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        async with running(tmp_path, taken) as it:
            assert f"Port {taken} is taken by another program" in it.out
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"{it.url}/livez")).status_code == 200
            second = await asyncio.to_thread(demo, cwd=tmp_path, MPESA_SYNC_HTTP_PORT="0")
            assert second.code == 1
            assert "another demo is playing" in second.err
            code, _, err = await it.ended(signal.SIGINT)
            assert code == 0, err
    assert not embedded.is_running(tmp_path / ".mpesa-sync")


async def test_what_it_logs_while_things_break_names_no_secret(tmp_path: Path) -> None:
    """Issue 3: a save that is cut is logged on the terminal, without the password, the token or a key."""
    async with running(tmp_path) as it:
        async with httpx.AsyncClient(base_url=it.url, headers={"origin": it.url}) as browser:
            answer = await browser.post("/demo/control", data={"control": "every-time:on", "venue": "mama-njeri"})
            assert "4 attempts, 4 cuts" in answer.text
        _, out, err = await it.ended(signal.SIGTERM)
    assert "sync.attempt" in err
    token = it.found(r"TOKEN=(\S+)")
    keys = [path.read_text().strip() for path in (tmp_path / ".mpesa-sync").glob("*.key")]
    assert len(keys) == 2
    for secret in (it.password, token, *keys, "postgresql://"):
        assert secret not in out + err
