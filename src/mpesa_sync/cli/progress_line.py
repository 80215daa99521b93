"""The words of a moment of a migration, and which of them go first where a terminal is narrow. Never above 100 %."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from mpesa_sync.cli.output import printable
from mpesa_sync.migration.report import Progress as Moment

_WORDS: Final = {
    "detecting": "Looking at all bars",
    "correcting": "Correcting",
    "undoing": "Taking back",
    "verifying": "Verifying: looking at all bars again",
}
_REASON: Final = 2
"""The rank of why the run holds back: it may be cut, and never goes."""


class Part(NamedTuple):
    """One thing to say. Those of a higher `rank` go first where there is no room."""

    rank: int
    text: str


def percent(moment: Moment) -> int:
    """Return how much of the phase is done, 0 to 100, rounded down: 100 only where nothing is left."""
    return max(0, min(100, 100 * moment.settled // moment.total)) if moment.total > 0 else 0


def line(moment: Moment, elapsed_s: float) -> str:
    """Return one moment as a plain line, with everything that is known."""
    head = _phase(moment)
    if moment.total > 0:
        head += f": {min(moment.settled, moment.total):,} of {moment.total:,} bars ({percent(moment)} %)"
    parts = [head, *(part.text for part in _details(moment))]
    return printable(f"{', '.join(parts)}; {elapsed_s:.0f} s")


def fitted(moment: Moment, elapsed_s: float, width: int) -> str:
    """Return one moment as what fits into `width` columns, at least 10: the least important parts are left out."""
    state = Part(3 if moment.throttle else 1, _phase(moment).partition(":")[0])
    parts = [state, *_done(moment), *_details(moment), Part(8, _span(elapsed_s))]
    while True:
        text = printable(_joined(parts))
        if cell_len(text) <= width:
            return text
        least = max(parts)
        if len(parts) == 1 or least.rank == _REASON:
            return set_cell_size(text, width - 1) + "…"
        parts.remove(least)


def _joined(parts: list[Part]) -> str:
    text = ""
    for part in parts:
        separator = " " if part.text.startswith("of ") and text.endswith("%") else ", "
        text += separator + part.text if text else part.text
    return text


def _phase(moment: Moment) -> str:
    return _WORDS.get(moment.phase, moment.phase)


def _done(moment: Moment) -> list[Part]:
    if moment.total <= 0:
        return []
    return [Part(0, f"{percent(moment)} %"), Part(4, f"of {moment.total:,}")]


def _details(moment: Moment) -> list[Part]:
    """Return all but the phase and how far it is, in the order in which it is read."""
    report, parts = moment.report, []
    if moment.throttle:
        parts.append(Part(_REASON, f"waiting: {moment.throttle}"))
    if moment.total > 0:
        counted = (
            (4, report.fixed, "fixed"),
            (10, report.already_consistent, "already right"),
            (9, report.stale, "stale"),
            (15, report.vanished, "deleted"),
            (5, report.quarantined, "quarantined"),
            (11, report.deferred, "deferred"),
        )
        parts += [Part(rank, f"{number:,} {words}") for rank, number, words in counted if number or words == "fixed"]
    if moment.eta_s is not None and moment.total > 0:
        parts.append(Part(6, f"ETA {_span(moment.eta_s)}"))
    if moment.rate > 0:
        parts.append(Part(7, f"{_rate(moment.rate)}/s"))
    if moment.target_ms is not None and moment.batch_size and moment.batch_ms:
        took = f"{moment.batch_ms:.0f} of {moment.target_ms:.0f} ms"
        parts.append(Part(12, f"batch {moment.batch_size:,} in {took}"))
    if report.scanned:
        parts.append(Part(13, f"{report.drifted:,} drifted of {report.scanned:,}"))
    if moment.checkpoint_s is not None:
        parts.append(Part(14, f"committed {_span(moment.checkpoint_s)} ago"))
    if moment.cursor is not None:
        parts.append(Part(16, f"at {moment.cursor}"))
    return parts


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _span(seconds: float) -> str:
    """Return a span for people: `9 s`, `4:05` minutes, `2 h 05`; what is no number is `?`."""
    if not 0 <= seconds < math.inf:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02}"
