"""What `mpesa-sync demo` prints while it serves: the problem in the database's own numbers, and where to look."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mpesa_sync.demo import observer, venues
from mpesa_sync.demo.narrator import WIDTH
from mpesa_sync.demo.site import Site
from mpesa_sync.demo.stage import Stage

_MEANING: Final = {
    "hidden": "on, and customers are not offered it: lost sales",
    "exposed": "off, and customers are offered it: a dead button",
}
_EXAMPLE: Final = venues.BARAKA
"""A venue that is drifted at the start, and usable once it is mended."""
_MENU: Final = venues.NJERI


async def show(stage: Stage, site: Site, *, program: str, unset: Sequence[str]) -> None:
    """Print it.

    Arguments:
        program: how this program is called here.
        unset: variables of the environment that would lead the other commands to another database or key.
    """
    await _problem(stage)
    _browser(stage, site)
    _programs(stage, site)
    _commands(stage, program=program, unset=unset)


def message(stage: Stage) -> Callable[[Mapping[str, str]], None]:
    """Return what prints a message that operators get."""

    def show(told: Mapping[str, str]) -> None:
        stage.narrator.line()
        stage.narrator.say(told["title"], indent=2, first="To the operators: ", style="bold")
        for line in told["message"].splitlines():
            stage.narrator.say(line, indent=4)

    return show


async def _problem(stage: Stage) -> None:
    narrator = stage.narrator
    seen = await observer.see_all(stage.plain)
    drifted = [venue for venue in venues.VENUES if seen[venue.id].drift]
    narrator.line("mpesa-sync: one fact in two places", "bold")
    narrator.say(
        "A bar's staff switch M-Pesa on and off in one field (mpesa_credentials.is_active); its customers are offered "
        "it where another field says so (bars.mpesa_enabled). Old programs write one and not the other. Of these "
        f"{len(seen)} sample venues {len(drifted)} have drifted apart:",
        indent=0,
    )
    for direction, meaning in _MEANING.items():
        names = ", ".join(venue.name for venue in drifted if seen[venue.id].drift == direction)
        narrator.line(f"  {direction:<8} {meaning}", "red")
        narrator.line(f"           {names}")


def _browser(stage: Stage, site: Site) -> None:
    narrator = stage.narrator
    menu = f"{site.url}/menu/{_MENU.slug}"
    narrator.line()
    if site.port_taken is not None:
        narrator.line(f"Port {site.port_taken} is taken by another program; this is another one.", "yellow")
    narrator.line("Open in a browser", "bold")
    narrator.line(f"  {f'{site.url}/demo':<{len(menu)}}  begin here: see both, break it, mend it")
    narrator.line(f"  {f'{site.url}/staff':<{len(menu)}}  for a bar's staff")
    narrator.line(f"  {menu}  for its customers")
    narrator.line(f"  {f'{site.url}/operator':<{len(menu)}}  for operators: all venues, and what needs a person")
    narrator.line(f"  Staff name: {site.account.name}   Password: {site.password.reveal()}   (made for this run)")
    narrator.line(f"  Operator:   {site.operator}   Password: {site.operator_password.reveal()}")


def _programs(stage: Stage, site: Site) -> None:
    narrator = stage.narrator
    narrator.line()
    narrator.line("Or as a program, in another terminal (paste the first line first)", "bold")
    narrator.line(f"  URL={site.url} BAR={_MENU.id} TOKEN={site.token.reveal()}")
    who = '-H "Authorization: Bearer $TOKEN"'
    narrator.line(f'  curl {who} "$URL/api/mpesa-settings?barId=$BAR"')
    narrator.line(f"  curl {who} -H 'Content-Type: application/json' \\")
    narrator.line('    -d "{\\"barId\\":\\"$BAR\\",\\"mpesa_enabled\\":true}" "$URL/api/mpesa-settings"')
    narrator.line('  curl "$URL/api/bars/$BAR/payment-methods"')
    narrator.line('  curl -N "$URL/api/bars/$BAR/payment-methods/events"')


def _commands(stage: Stage, *, program: str, unset: Sequence[str]) -> None:
    narrator = stage.narrator
    narrator.line()
    narrator.line("Or from the command line, in another terminal in this folder", "bold")
    if unset:
        narrator.line(f"  unset {' '.join(unset)}   (would lead to another database)", "yellow")
    commands = (
        ("check", "which venues have drifted"),
        (f"explain {_EXAMPLE.slug}", "why its customers see M-Pesa, or not"),
        (f"repair {_EXAMPLE.slug}", "correct this one"),
        ("migrate", "correct all of them, and verify"),
        ("alerts list", "what needs a person, after something failed for good"),
        ("demo --check", "the whole story, every claim checked"),
    )
    width = max(len(f"{program} {arguments}") for arguments, _ in commands)
    for arguments, meaning in commands:
        narrator.line(f"  {f'{program} {arguments}':<{width}}  {meaning}")
    narrator.line()
    for line in textwrap.wrap(
        "Serving until Ctrl-C. Below: what it logs while you break things, and the messages that operators get then.",
        WIDTH,
    ):
        narrator.line(line, "dim")
