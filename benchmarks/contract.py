"""The numbers to reach (spec 8), and the one table at the end of `make bench` that holds what was measured to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.place import Row

_SIZE: Final = r"(?P<size>[\d,]+)"
_NUMBER: Final = re.compile(r"[\d,.]+")
_BY_HAND: Final = "time it on a fresh clone: docs/benchmarks.md"
_TWO_CORES: Final = "server, clients and PostgreSQL share the two cores of the machine that it was looked into on"


@dataclass(frozen=True)
class Promise:
    """One number of the contract.

    Attributes:
        what: its name in the table.
        rows: matches `what` of the rows that measure it; None for what no benchmark measures.
        size: the size that the number is promised for, where the rows are of several.
        most, least: what the ratio may be; one of them.
        cause: why it was missed when that was last looked into; the whole of it is in docs/benchmarks.md.
    """

    what: str
    rows: re.Pattern[str] | None
    size: int | None = None
    most: float | None = None
    least: float | None = None
    cause: str = ""

    @property
    def goal(self) -> str:
        """The goal in words."""
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}" if self.most is not None else ""

    def is_met_by(self, ratio: float) -> bool:
        """Return whether a ratio, as the table shows it, is within the goal."""
        shown = round(ratio, 2)
        return (self.most is None or shown <= self.most) and (self.least is None or shown >= self.least)


def _promise(what: str, rows: str, **bounds: float | int | str) -> Promise:
    return Promise(what, re.compile(rows), **bounds)  # type: ignore[arg-type]


PROMISES: Final = (
    _promise(
        "migrate, writing", rf"migrate, {_SIZE} bars, writing", size=1_000_000, most=1.6,
        cause="a bar's own work is what the single statement does, and its locks, its version, its notice and the "
        "read-back; small fleets pay the fixed costs of a run",
    ),
    _promise("migrate, the whole run", rf"migrate, {_SIZE} bars, whole", size=1_000_000, most=2.5,
             cause="as for writing, and a look and a verification of all bars"),
    _promise("migrate, longest batch of 200 ms", rf"migrate, {_SIZE} bars, longest batch", size=1_000_000, most=1,
             cause="batches take 105 ms at the median; " + _TWO_CORES),
    _promise("migrate, peak memory beside check's (flat)", rf"migrate, {_SIZE} bars, peak memory", size=1_000_000,
             most=1.25),
    _promise("check", rf"check, {_SIZE} bars", size=1_000_000, most=1.2,
             cause="beginning and looking at the shape of the tables, where a fleet is small"),
    _promise("sync_mpesa_status, 16 clients", r"sync_mpesa_status, 16 clients", least=0.5),
    _promise("settings save over HTTP", r"save over HTTP, 16 clients", least=0.35),
    _promise("commit → stream, 1 of 10,000: + 1 ms at p50", rf"commit → one stream beside {_SIZE}, p50", size=10_000,
             most=1, cause=_TWO_CORES),
    _promise("commit → stream, 1 of 10,000: + 5 ms at p99", rf"commit → one stream beside {_SIZE}, p99", size=10_000,
             most=1, cause=_TWO_CORES),
    _promise("commit → the last of 5,000 streams", rf"commit → the last of {_SIZE} streams", size=5_000, most=1.5,
             cause=_TWO_CORES),
    _promise("memory per connected customer", rf"memory a stream, {_SIZE} streams", size=5_000, most=1.3),
    _promise("5,000 streams cut at once: right within 10 s", rf"{_SIZE} streams cut at once.*all right", size=5_000,
             most=1),
    _promise("5,000 streams cut at once: 0.01 queries each", rf"{_SIZE} streams cut at once.*reads a stream",
             size=5_000, most=1),
    _promise("GET payment-methods", r"GET payment-methods", least=0.7),
    _promise("listener killed → first right frame", r"listener killed → first right frame, p50", most=1.5,
             cause="the bare client's own time moves between 9 and 16 ms"),
    _promise("listener killed → first right frame within 1 s", r"listener killed → first right frame, worst", most=1),
    Promise("fresh clone → the demo's links ≤ 90 s and downloads", None),
    Promise("demo --check ≤ 60 s", None),
    Promise("make test ≤ 10 min on 2 cores", None),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What became of a promise: its rows by size, and whether it was kept; None where it was not measured."""

    promise: Promise
    measured: tuple[tuple[int | None, Row], ...]
    is_met: bool | None

    @property
    def says(self) -> str:
        """The verdict in words."""
        promise, size = self.promise, self.measured[-1][0] if self.measured else None
        if promise.rows is None:
            return _BY_HAND
        if self.is_met is None:
            return "not measured in this run"
        of_size = "" if size is None or size == promise.size else f" at {size:,}; promised at {promise.size or 0:,}"
        return ("met" if self.is_met else "MISSED") + of_size

    @property
    def growth(self) -> str:
        """How the cost of one bar, or stream, grows from the smallest size to the largest."""
        sizes = [(size, _number(row.ours)) for size, row in self.measured if size is not None]
        if len({size for size, _ in sizes}) < 2 or not sizes[0][1] or self.promise.what.startswith("migrate, longest"):
            return ""
        (small, first), (large, last) = sizes[0], sizes[-1]
        if "memory" in self.promise.what:
            return f"{last / first:.2f} × for {large / small:.0f} × as many"
        return f"each {(last / large) / (first / small):.2f} × as long at {large:,} as at {small:,}"


def judged(rows: Sequence[Row]) -> list[Verdict]:
    """Return every promise of the contract with the rows that measure it, the smallest size first.

    The rows of the largest size decide, all of them.
    """
    verdicts = []
    for promise in PROMISES:
        found = [(row, match) for row in rows if promise.rows is not None and (match := promise.rows.match(row.what))]
        measured = sorted(((_size(match), row) for row, match in found), key=lambda one: one[0] or 0)
        deciding = [row for size, row in measured if size == measured[-1][0]]
        is_met = all(promise.is_met_by(row.ratio) for row in deciding) if deciding else None
        verdicts.append(Verdict(promise, tuple(measured), is_met))
    return verdicts


def table(rows: Sequence[Row]) -> list[str]:
    """Return the table of the contract, and below it each miss by name with its cause."""
    verdicts = judged(rows)
    lines = ["| the contract (spec 8) | goal | ratios | growth | |", "|---|---|---|---|---|"]
    for verdict in verdicts:
        ratios = ", ".join(
            f"{row.ratio:.2f}" if size is None else f"{row.ratio:.2f} at {size:,}" for size, row in verdict.measured
        )
        lines.append(
            f"| {verdict.promise.what} | {verdict.promise.goal} | {ratios} | {verdict.growth} | {verdict.says} |"
        )
    missed = [verdict.promise for verdict in verdicts if verdict.is_met is False]
    lines += ["", "Missed:" if missed else "Nothing that was measured is missed."]
    lines += [f"- {promise.what}: {promise.cause or 'cause not known; see docs/benchmarks.md'}" for promise in missed]
    return lines


def _size(match: re.Match[str]) -> int | None:
    found = match.groupdict().get("size")
    return None if found is None else int(found.replace(",", ""))


def _number(text: str) -> float:
    found = _NUMBER.search(text)
    return float(found[0].replace(",", "")) if found else 0.0
