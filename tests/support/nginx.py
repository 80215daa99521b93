"""A real nginx before a server of the test, with the configuration of docs/how-to/serve.md."""

from __future__ import annotations

import os
import re
import shutil
import socket
from asyncio.subprocess import create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.faults import until

GUIDE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "serve.md"
_CONFIG: Final = """
daemon off;
master_process off;
worker_rlimit_nofile 1024;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {more}
    {site}
}}
"""


def program() -> str:
    """Return where nginx is. Where it is not, the test is skipped, and said so; in CI it fails."""
    found = shutil.which("nginx", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin")))
    if found is None:
        if "CI" in os.environ:
            pytest.fail("nginx is not on this machine; .ci/run installs it")
        pytest.skip("nginx is not on this machine (on Debian: apt-get install nginx-light); CI has it")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _site(server: str, port: int) -> str:
    """Return the site of the how-to, for a server and without TLS."""
    found = re.search(r"^```nginx\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    site = re.sub(r"^ *ssl_\w+ .*\n", "", found[1], flags=re.MULTILINE)
    assert "127.0.0.1:8000" in site
    assert "443 ssl http2" in site
    return site.replace("127.0.0.1:8000", urlsplit(server).netloc).replace("443 ssl http2", f"127.0.0.1:{port}")


@asynccontextmanager
async def behind(folder: Path, server: str, *, more: str = "") -> AsyncIterator[str]:
    """Run nginx before a server, and give the address of it.

    Arguments:
        more: directives besides those of the how-to.
    """
    port, config = _free_port(), folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, site=_site(server, port), more=more))
    process = await create_subprocess_exec(program(), "-q", "-p", str(folder), "-c", str(config))
    address = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        assert process.returncode is None, "nginx has ended"
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{address}/livez")).status_code == 200
        except httpx.TransportError:
            return False

    try:
        await until(answers)
        yield address
    finally:
        process.kill()
        await process.wait()
