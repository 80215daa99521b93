"""Saves over HTTP with 16 clients against pgbench with the statements of such a save, as they were really sent."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4, uuid5

from benchmarks.place import KEY, Row, median
from benchmarks.web_clients import CLIENTS, Load, bar_id
from benchmarks.web_place import Site, load, place
from mpesa_sync import connect
from mpesa_sync.db import embedded
from mpesa_sync.identity.tokens import Tokens
from mpesa_sync.secret import MASK, Secret
from mpesa_sync.sync.settings_service import SettingsService
from mpesa_sync.web.api.settings_body import change_of

BARS: Final = 1_000
SECONDS: Final = 3.0
ROUNDS: Final = 3
VARIANTS: Final = {"secrets unchanged": False, "new secrets": True}
_ARGUMENT: Final = re.compile(r"\$(\d+)")
_DRAW: Final = f"\\set op random(1, 200000000000000)\n\\set bar random(1, {BARS})\n"
_NUMBERED: Final = "('00000000-0000-4000-{}-' || lpad(to_hex(:{}::bigint), 12, '0'))::uuid"
Statement = tuple[str, Sequence[Any]]


async def _sent(
    url: str, tokens: Tokens, owner: UUID, *, enabled: bool, new_secrets: bool
) -> tuple[list[Statement], UUID]:
    """Return the statements that one save sends, in order, and the id of its operation."""
    found: list[Statement] = []
    bar, operation_id = UUID(bar_id(1)), uuid4()
    given = {
        f"mpesa_{name}": secrets.token_hex(32) if new_secrets else MASK
        for name in ("consumer_key", "consumer_secret", "passkey")
    }
    body = {"mpesa_enabled": enabled, "mpesa_environment": "production", "mpesa_business_shortcode": "600123", **given}
    async with connect(url, kms_keys=[KEY], pool_size=1) as database:
        service, token = SettingsService(database), tokens.mint(owner, 600)

        async def save(operation: UUID) -> None:
            await service.save(change_of(bar, body), await tokens.person_of(database, token), operation_id=operation)

        await save(uuid4())  # what a process reads once is not of a save
        connection = await database.acquire()
        connection.add_query_logger(lambda said: found.append((said.query.strip(), said.args)))
        await database.release(connection)
        await save(operation_id)
        await asyncio.sleep(0)  # the driver tells of the last one only now
    return found, operation_id


def _literal(value: Any, known: dict[UUID, str]) -> str:
    if isinstance(value, UUID):
        return known.get(value, f"'{value}'::uuid")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    if isinstance(value, (list, tuple)):
        return f"array[{', '.join(_literal(one, known) for one in value)}]"
    # A colon would begin a variable of pgbench, also inside quotes.
    return "E'" + str(value).replace("\\", "\\\\").replace("'", "''").replace(":", "\\072") + "'"


def _nth(given: Sequence[str], found: re.Match[str]) -> str:
    return given[int(found[1]) - 1]


def _script(statements: Sequence[Statement], operation_id: UUID, *, is_simple: bool) -> str:
    """Return them as a script: another bar and other operations each time, and as many round trips as were sent."""
    known = {
        UUID(bar_id(1)): _NUMBERED.format("8000", "bar"),
        operation_id: _NUMBERED.format("9000", "op"),
        uuid5(operation_id, "status"): _NUMBERED.format("a000", "op"),
    }
    lines = [_DRAW]
    for query, arguments in statements:
        parts = [part.strip() for part in query.split(";") if part.strip()]
        given = [_literal(value, known) for value in arguments]
        if len(parts) == 1:
            lines.append(_ARGUMENT.sub(partial(_nth, given), parts[0]) + ";")
        elif is_simple:
            lines.append(" \\;\n".join(parts) + ";")
        else:
            lines += ["\\startpipeline", *(part + ";" for part in parts), "\\endpipeline"]
    return "\n".join(lines) + "\n"


def _pgbench(server: embedded.Server, url: str, protocol: str, scripts: Sequence[str]) -> float:
    """Return pgbench's saves per second."""
    parts = urlsplit(url)
    with tempfile.TemporaryDirectory() as folder:
        files: list[str] = []
        for number, script in enumerate(scripts):
            path = Path(folder) / f"{number}.sql"
            path.write_text(script)
            files += ["-f", str(path)]
        target = ["-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username)]
        how = ["-n", "-c", str(CLIENTS), "-j", "2", "-T", str(round(SECONDS)), "-M", protocol]
        done = subprocess.run(
            [server.bin_dir / "pgbench", *how, *files, *target, parts.path.lstrip("/")],
            env={**os.environ, "PGPASSWORD": str(parts.password)},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found, done.stderr[-2000:]
    assert "number of failed transactions: 0 " in done.stdout, done.stdout
    return float(found[1])


async def _scripts(url: str, site: Site, *, new_secrets: bool) -> tuple[dict[str, list[str]], int]:
    """Return pgbench's two scripts, on and off, for each protocol; and the round trips of a save."""
    tokens = Tokens(Secret(site.jwt_secret), issuer=None, audience="authenticated")
    saves = [await _sent(url, tokens, site.owner, enabled=on, new_secrets=new_secrets) for on in (True, False)]
    by_protocol = {
        protocol: [_script(*save, is_simple=protocol == "simple") for save in saves]
        for protocol in ("simple", "prepared")
    }
    return by_protocol, len(saves[0][0])


async def measure(server: embedded.Server, url: str, site: Site) -> list[Row]:
    """Run both in turn and return a row for each variant of a save."""
    rows: list[Row] = []
    for words, new_secrets in VARIANTS.items():
        scripts, trips = await _scripts(url, site, new_secrets=new_secrets)
        limits: dict[str, list[float]] = {protocol: [] for protocol in scripts}
        ours = []
        for _ in range(ROUNDS):
            for protocol, chosen in scripts.items():
                limits[protocol].append(await asyncio.to_thread(_pgbench, server, url, protocol, chosen))
            async with place("app", site) as target:
                spec = Load(target.port, target.pid, SECONDS, site.token, bars=BARS, new_secrets=new_secrets)
                ours.append(await load(spec))
        rate, limit = median([one.rate for one in ours]), max(median(rates) for rates in limits.values())
        share, client = median([one.server_share for one in ours]), median([one.client_share for one in ours])
        print(
            f"save, {words}: {trips} round trips; server {share:.0%} of a core, client {client:.0%}; p50 "
            f"{median([one.median_ms for one in ours]):.1f} ms; pgbench "
            + ", ".join(f"{protocol} {median(rates):.0f}/s" for protocol, rates in limits.items()),
            flush=True,
        )
        rows.append(
            Row(
                f"save over HTTP, {CLIENTS} clients, {words}",
                f"{rate:.0f}/s",
                f"pgbench {limit:.0f}/s",
                rate / limit,
                "≥ 0.35",
            )
        )
    return rows
