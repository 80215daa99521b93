"""Venues in every state of the overview, and the pages for operators read over HTTP."""

from __future__ import annotations

from itertools import product
from typing import Any, Final
from uuid import UUID

from mpesa_sync.domain.bars import BarFacts, CredentialsRow, SecretsState
from mpesa_sync.domain.credentials import Environment
from tests.support.browsing import Visitor, with_session
from tests.support.pages import Page
from tests.support.venues import SEALED, Flag, Row, add_bar
from tests.support.web import Site

OVERVIEW: Final = "/operator"
MISSING: Final = (SEALED[0], b"", SEALED[2])
FLAGS: Final[tuple[Flag, ...]] = (True, False, None)
ROWS: Final[tuple[Row, ...]] = (True, False, None, "absent")


async def every_venue(sql: Any) -> list[BarFacts]:
    """Add a venue in every state that the overview tells apart; return them as the rule takes them."""
    added = []
    for shown, active, sandbox, production, is_whole in product(FLAGS, FLAGS, ROWS, ROWS, (True, False)):
        bar = await add_bar(
            sql,
            mpesa_enabled=shown,
            active=active,
            sandbox=sandbox,
            production=production,
            sealed=(SEALED[0], SEALED[1], SEALED[2]) if is_whole else MISSING,
        )
        secrets = SecretsState.USABLE if is_whole else SecretsState.MISSING
        rows = tuple(
            CredentialsRow(environment, flag, secrets)
            for environment, flag in ((Environment.SANDBOX, sandbox), (Environment.PRODUCTION, production))
            if flag != "absent"
        )
        added.append(BarFacts(bar, shown, rows, active=active))
    return added


async def operator(site: Site, sql: Any) -> Visitor:
    """Return the browser of an operator."""
    return await with_session(site, await site.person(sql, operator=True), operator=True)


async def seen(site: Site, who: Visitor, path: str = OVERVIEW, status: int = 200) -> Page:
    """Return a page as a browser gets it, read; the reader complains about broken markup."""
    answer = await site.client.get(path, headers={**who.headers, "accept": "text/html"})
    assert answer.status_code == status, answer.text
    return Page(answer.text)


def listed(page: Page) -> list[UUID]:
    """Return the ids of the venues on a page of the list, in its order."""
    return [UUID(found["data-bar"]) for found in page.all("li") if "data-bar" in found]
