"""pgbench on a script of ours: the rate of the same statements without any of our code."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mpesa_sync.db import embedded, session

CLIENTS: Final = 16


@dataclass(frozen=True)
class Ran:
    """What pgbench found: transactions a second, and the mean of one in milliseconds."""

    rate: float
    latency_ms: float


def run(server: embedded.Server, url: str, script: str, *, protocol: str, seconds: int) -> Ran:
    """Run a script with 16 clients.

    Arguments:
        script: what draws, the line `-- begin`, and what stands after the BEGIN, which is ours and one round trip, as
            it is in our own transactions. A colon before a letter is a variable of pgbench's, also inside quotes.
        protocol: `simple` or `prepared`.
    """
    begin = session.WRITE.sql.strip()
    if protocol == "simple":
        begin = begin.replace(";", " \\;").removesuffix(" \\;") + ";"
    draw, marker, statements = script.partition("-- begin\n")
    assert marker, "a script says where its transaction begins"
    parts = urlsplit(url)
    target = ["-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username), parts.path.lstrip("/")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "script.sql"
        file.write_text(draw + begin + "\n" + statements)
        options = ["-n", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds), "-M", protocol, "-f", str(file)]
        done = subprocess.run(
            [server.bin_dir / "pgbench", *options, *target],
            env={**os.environ, "PGPASSWORD": str(parts.password)},
            capture_output=True,
            text=True,
            check=False,
        )
    rate, latency = (re.search(rf"{name} = ([\d.]+)", done.stdout) for name in ("tps", "latency average"))
    assert rate, done.stderr[-2000:]
    assert latency, done.stdout
    return Ran(float(rate[1]), float(latency[1]))
