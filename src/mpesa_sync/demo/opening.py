"""What is told before the story and after it: the problem, who sees what, and how to explore further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mpesa_sync.demo import legacy, observer, venues
from mpesa_sync.demo.stage import Stage

_HIDDEN: Final = "hidden: lost sales"
_EXPOSED: Final = "exposed: dead button"


async def problem(stage: Stage) -> None:
    """Tell the problem, and show every venue as its staff and its customers see it."""
    narrator = stage.narrator
    narrator.line("mpesa-sync: one fact in two places", "bold")
    narrator.line()
    narrator.say(
        "A platform for bars and restaurants has two apps on one database. Staff switch M-Pesa on and off in the "
        "staff app: it writes mpesa_credentials.is_active. The customer app offers M-Pesa where "
        "bars.mpesa_enabled says so. Nothing keeps the two alike. So customers miss M-Pesa where it works (hidden: "
        "lost sales), and are offered it where it cannot work (exposed: a dead button).",
        indent=0,
    )
    narrator.line()
    narrator.say(
        f"Twelve sample venues, made just now on a PostgreSQL {stage.server} of their own, as the platform's "
        "programs have left them:",
        indent=0,
    )
    await narrator.pause(2)
    await _venues(stage)
    await narrator.pause(2)
    narrator.line()
    narrator.say(
        "Now mpesa-sync. Labels such as [T1.1 R1.1 P1] name the plan's tasks, requirements and properties; "
        f"{narrator.tick} is a claim checked against the database just then.",
        indent=0,
    )
    await narrator.pause()


async def _venues(stage: Stage) -> None:
    narrator = stage.narrator
    narrator.line()
    narrator.line(f"  {'VENUE':<22}{'STAFF SEE':<16}{'CUSTOMERS SEE':<15}STATE", "bold")
    seen = await observer.see_all(stage.plain)
    for venue in venues.VENUES:
        fields = seen[venue.id]
        staff = f"on ({' + '.join(fields.active)})" if fields.active else "off" if fields.is_active else "not set up"
        staff = "on (both)" if len(fields.active) > 1 else staff
        customers = "M-Pesa" if fields.mpesa_enabled else "no M-Pesa"
        note = {"hidden": _HIDDEN, "exposed": _EXPOSED}.get(fields.drift or "", venue.state)
        style = "red" if fields.drift else None
        narrator.line(f"  {venue.name:<22}{staff:<16}{customers:<15}{note}", style)


async def explore(stage: Stage, *, program: str, unset: Sequence[str]) -> None:
    """Let the old programs run once more, and say how to look on.

    Arguments:
        program: how this program is called here.
        unset: variables of the environment that would lead the commands to another database or key.
    """
    narrator = stage.narrator
    await legacy.staff_app_switches(stage.plain, venues.NJERI, True)
    await legacy.support_script_sets(stage.plain, venues.JUA_KALI, True)
    narrator.line()
    narrator.line("Look for yourself", "bold")
    narrator.say(
        "The simulated old programs have just run once more, and two venues have drifted again. The data stays in "
        "./.mpesa-sync until the next demo, which makes it anew. These commands find the server there by "
        "themselves:",
        indent=2,
    )
    if unset:
        narrator.line()
        narrator.say(
            f"Careful: {' and '.join(unset)} of your environment would lead elsewhere. First:", indent=2, style="yellow"
        )
        narrator.line(f"    unset {' '.join(unset)}")
    narrator.line()
    for arguments, meaning in (
        ("check", "which venues have drifted"),
        (f"explain {venues.NJERI.slug}", "why one is offered M-Pesa, or not"),
        (f"repair {venues.NJERI.slug}", "correct that one"),
        ("migrate --dry-run", "what a migration would do"),
        ("migrate", "correct all of them, and verify"),
    ):
        narrator.line(f"    {program} {arguments}")
        narrator.line(f"        {meaning}", "dim")
    narrator.line()
    narrator.say("What is proved where: docs/traceability.md. All proofs: make test, make prove.", indent=2)
