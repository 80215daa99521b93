"""/runbook/{kind}: what an alert of this kind means and how to mend it, from the pages that come with the package."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

from litestar import MediaType, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.sync.alert_words import runbook_path, title_of
from mpesa_sync.web import pages

_LINK: Final = re.compile(r'href="([a-z_]+)\.md"')
"""A link between two pages, as it works in a checkout."""
_WIDE: Final = (
    ("<pre>", '<pre tabindex="0">'),
    ("<table>", '<div class="scroll" tabindex="0"><table>'),
    ("</table>", "</table></div>"),
)
"""What may be wider than a phone scrolls by itself, with the keyboard too."""


@dataclass(frozen=True, slots=True)
class RunbookView:
    """One page: its title, its text as HTML made from our own file, and the other pages as (path, title)."""

    title: str
    html: str
    others: tuple[tuple[str, str], ...]


@get("/runbook/{kind:str}", include_in_schema=False)
async def show(kind: FromPath[str]) -> Response[str]:
    """Return the page of a kind of alert. Public: it names no venue and no secret."""
    if kind not in tuple(AlertKind):
        raise NotFoundException
    return Response(
        pages.render("runbook.html", view=view_of(AlertKind(kind))),
        media_type=MediaType.HTML,
        headers={"cache-control": "no-cache"},
    )


@functools.cache
def view_of(kind: AlertKind) -> RunbookView:
    """Return the page of a kind."""
    from markdown import markdown  # here: only who reads the runbook waits for it

    html = markdown(source_of(kind), extensions=["fenced_code", "tables"], output_format="html")
    for plain, scrolls in _WIDE:
        html = html.replace(plain, scrolls)
    others = tuple((runbook_path(other), title_of(other)) for other in AlertKind if other is not kind)
    return RunbookView(title_of(kind), _LINK.sub(lambda found: f'href="{runbook_path(found[1])}"', html), others)


def source_of(kind: AlertKind) -> str:
    """Return the text of a kind's page, as Markdown."""
    return (resources.files("mpesa_sync") / "runbook" / f"{kind}.md").read_text("utf-8")
