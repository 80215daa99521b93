"""A site that a venue has already, of an origin of its own: pages with a drop-in of ours, as its how-to shows them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

GUIDE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "drop-in.md"
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Savanna Terrace</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/site.css"></head>
<body><main><h1>Savanna Terrace</h1><form>{body}</form></main></body></html>
"""
_STYLE: Final = """
:root { color-scheme: light dark; font: 1.1rem/1.5 system-ui, sans-serif; }
main { max-width: 30rem; margin: auto; padding: 1rem; }
input { margin-inline-end: 0.75rem; }
"""
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def shown_in_guide(kind: str, number: int = 0) -> str:
    """Return a block of the how-to by its language: the first, or the one with this number."""
    blocks: list[str] = re.findall(rf"^```{kind}\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return blocks[number]


class HostSite:
    """A site. What its pages show is ours to serve, at `server`.

    Attributes:
        files: by path; what a test adds is served.
        policy: the Content-Security-Policy of its pages, "" for none.
    """

    def __init__(self) -> None:
        self.origin = ""
        self.policy = ""
        self.files: dict[str, str] = {"/site.css": _STYLE + shown_in_guide("css")}

    def add(self, path: str, content: str, *, server: str, bar: str) -> None:
        """Add a page or a script as the how-to shows it, for a server and a bar."""
        own = content.replace("https://pay.example", server).replace("mama-njeri", bar)
        self.files[path] = own if "." in path else _PAGE.format(body=own)

    def allow(self, server: str, *, trusted_types: bool = True) -> None:
        """Give every page the policy of the how-to for a server, as strict as it can be.

        Arguments:
            trusted_types: whether scripts may not be named by a plain text, either.
        """
        listed = dict(part.split(" ", 1) for part in shown_in_guide("text").strip().split("; "))
        scripts, asked = (value.replace("https://pay.example", server) for value in listed.values())
        self.policy = (
            f"default-src 'none'; script-src 'self' {scripts}; connect-src {asked}; style-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'"
        ) + ("; require-trusted-types-for 'script'" if trusted_types else "")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request on one connection."""
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")[1].partition("?")[0]
            content = self.files.get(path)
            body, status = (content or "").encode(), "200 OK" if content is not None else "404 Not Found"
            kind = _TYPES.get(path.rpartition(".")[2], "text/html")
            policy = f"Content-Security-Policy: {self.policy}\r\n" if self.policy else ""
            head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}{policy}Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the browser has gone
        finally:
            writer.close()


@asynccontextmanager
async def host_site(name: str = "localhost") -> AsyncIterator[HostSite]:
    """Serve a site on a free port of this machine, under a name that our own server has not."""
    site = HostSite()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.origin = f"http://{name}:{server.sockets[0].getsockname()[1]}"
    try:
        yield site
    finally:
        server.close()
