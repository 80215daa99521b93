"""/api/alerts and /operator/alerts: a question with a parameter that nobody reads is refused, never answered (R4)."""

from __future__ import annotations

from typing import Any, Final

from tests.support.browsing import with_session
from tests.support.web import Site

PATH: Final = "/api/alerts"


async def test_what_nobody_reads_in_a_question_is_refused(site: Site, sql: Any) -> None:
    """R4.4: a filter with a slip in its name, or given twice, must not show another list than was asked for."""
    operator = await site.person(sql, operator=True)
    for query, field in (
        ("states=all", "states"),
        ("state=open&state=all", "state"),
        ("kind=&kind=", "kind"),
        ("%3Cb%3E=1", "query"),
        ("=1", "query"),
    ):
        answer = await site.client.get(f"{PATH}?{query}", headers=operator.headers)
        assert answer.status_code == 400, query
        assert [error["field"] for error in answer.json()["errors"]] == [field], query
    visitor = await with_session(site, operator, operator=True)
    for query, named in (
        ("states=all", "states: is no parameter"),
        ("state=open&state=all", "state: is there 2 times"),
    ):
        page = await site.client.get(f"/operator/alerts?{query}", headers={**visitor.headers, "accept": "text/html"})
        assert page.status_code == 400, query
        assert named in page.text
