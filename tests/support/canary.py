"""Everything that was said on one day, exit by exit: answers, logs, tables, files, messages, commands."""

from __future__ import annotations

import asyncio
import io
import json
import re
import secrets
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.channels import Endpoints
from tests.support.cli import environment
from tests.support.many_commands import run

_ACTIVITY: Final = "select coalesce(string_agg(query, chr(10)), '') from pg_stat_activity where pid <> pg_backend_pid()"
_TABLES: Final = (
    "select schemaname, tablename from pg_tables where schemaname in ('public', 'mpesa_sync') order by 1, 2"
)
_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_ENDS: Final = (0, 1, 2, 3)
"""Exit codes of commands that did what they were asked, or said why not."""


def canary() -> str:
    """A well-formed secret with characters that every encoding writes in its own way."""
    return f"cNry+/={secrets.token_urlsafe(20)}"


def in_a_path() -> str:
    """A secret that may stand in an address."""
    return f"cNry-{secrets.token_urlsafe(20)}"


class Day:
    """What was said, by exit. An answer's exit is its method and its path, without ids."""

    def __init__(
        self, client: httpx.AsyncClient, sql: Any, logs: dict[str, io.StringIO], server_log: Path, spool: Path
    ) -> None:
        self.client, self.sql, self.server_log = client, sql, server_log
        self.said: defaultdict[str, list[str]] = defaultdict(list)
        self.statuses: list[int] = []
        self._logs, self._spool = logs, spool
        self._began = server_log.stat().st_size

    async def ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """Send a request, and keep the answer with its headers; a new cookie is what a cookie is for."""
        answer = await self.client.request(method, path, **sent)
        self.client.cookies.clear()
        told = [f"{name}: {value}" for name, value in answer.headers.multi_items() if name != "set-cookie"]
        text = "\n".join([*told, answer.text])
        self.said[f"{method} {_UUID.sub('ID', path)}"].append(text)
        if answer.headers.get("content-type", "").startswith("application/problem"):
            self.said["problem documents"].append(text)
        self.statuses.append(answer.status_code)
        self.said["pg_stat_activity"].append(await self.sql.fetchval(_ACTIVITY))
        return answer

    async def commands(self, url: str, variables: dict[str, str], *lines: str, when: str = "") -> None:
        """Run commands, each an exit of its own: what it prints, and what it says on stderr."""
        whole = environment(url, **variables)
        for line, ended in zip(lines, await asyncio.to_thread(run, lines, whole, self._spool.parent), strict=True):
            assert ended.code in _ENDS, f"{line}: {ended.code}"
            assert "Traceback" not in ended.err or "--debug" in line, f"{line}: {ended.err}"
            self.said[f"mpesa-sync {_UUID.sub('ID', line)}{when}"].append(ended.out + ended.err)

    def heard(self, endpoints: Endpoints, **channels: str) -> None:
        """Keep the messages that were delivered, by the name of each channel."""
        for name, path in channels.items():
            self.said[f"messages to {name}"].append(json.dumps(endpoints.heard[path]))

    def spooled(self) -> None:
        """Keep what stands in the spool, the names of its files too."""
        for path in sorted(self._spool.rglob("*")):
            self.said["spool"].append(f"{path.name}\n{path.read_text() if path.is_file() else ''}")

    async def exits(self) -> dict[str, str]:
        """Return each exit with all that was said there; those where nothing was said are none."""
        for schema, table in await self.sql.fetch(_TABLES):
            self.said[f"table {schema}.{table}"].append(
                await self.sql.fetchval(f"select coalesce(string_agg(t::text, chr(10)), '') from {schema}.{table} t")
            )
        for form, written in self._logs.items():
            self.said[f"our log, {form}"].append(written.getvalue())
        with self.server_log.open("rb") as file:
            file.seek(self._began)
            self.said["PostgreSQL's log"].append(file.read().decode("utf-8", "replace"))
        return {exit_: text for exit_, parts in self.said.items() if (text := "\n".join(parts)).strip()}
