"""The runbook: one page for every kind of alert, complete, true to the command line, and public without any secret."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import typer.main

from mpesa_sync import errors
from mpesa_sync.cli import main
from mpesa_sync.db.settings import StoredOperation
from mpesa_sync.errors import ConfigurationError, CredentialsUnusable, MpesaSyncError, OutcomeUnknown
from mpesa_sync.jobs import channels
from mpesa_sync.sync import alert_words
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.sync.alert_reading import fate
from mpesa_sync.sync.alert_words import SEVERAL
from mpesa_sync.sync.alerts import alert_for
from mpesa_sync.web import runbook
from tests.support.occurrences import NOON
from tests.support.pages import read
from tests.support.web import Site

SECTIONS: Final = ["What it means", "What customers see meanwhile", "Look", "Mend", "Call"]
INDEX: Final = (Path(__file__).parent.parent / "docs" / "runbook.md").read_text()
every_kind = pytest.mark.parametrize("kind", AlertKind)


async def test_every_kind_has_a_page_that_anybody_can_read(site: Site) -> None:
    """R5.2: what to do, and a link to the page in the runbook; with every section, and under its own title."""
    for kind in AlertKind:
        answer = await site.client.get(alert_words.runbook_path(kind))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert re.findall("<h2>(.*)</h2>", answer.text) == SECTIONS
        assert f"<h1>{alert_words.KINDS[kind].title}</h1>" in answer.text


@every_kind
def test_a_page_is_well_formed_and_needs_nothing_inline(kind: AlertKind) -> None:
    """CSP: no inline script or style; every link is one of this site that there is."""
    page = read("runbook.html", runbook.view_of(kind))
    assert len(page.all("h1")) == 1
    assert not page.all("style")
    assert not page.all("script")
    assert not [found for _, found in page.elements if "style" in found]
    pages = {alert_words.runbook_path(other) for other in AlertKind}
    for found in page.all("a"):
        assert found["href"] in {"#main", "/staff", "/operator/alerts", *pages}, found
    assert pages - {alert_words.runbook_path(kind)} <= {found["href"] for found in page.all("a")}


async def test_what_is_no_kind_has_no_page(site: Site) -> None:
    """Odd input: 404 as a page, and no file is read by a name that was sent."""
    for path in ("nothing", "SYNC_FAILED", "sync_failed.md", "..%2f..%2ferrors", "sync_failed%00"):
        answer = await site.client.get(f"/runbook/{path}", headers={"accept": "text/html"})
        assert answer.status_code == 404
        assert "There is no such page" in answer.text


def commands() -> list[tuple[str, str]]:
    """Return every command line that a page or the index names, with where it stands."""
    found = []
    for place, text in [*((kind.value, runbook.source_of(kind)) for kind in AlertKind), ("index", INDEX)]:
        blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`(mpesa-sync [^`]+)`", text)
        found += [(place, line) for line in lines]
    return found


@pytest.mark.parametrize(("place", "line"), commands())
def test_every_command_of_the_runbook_is_one_that_there_is(place: str, line: str) -> None:
    """Docs are run: the command, its arguments and its options are those of the command line itself."""
    words = shlex.split(line)
    assert words[0] == "mpesa-sync", f"{place}: {line}"
    command: Any = typer.main.get_command(main.build())
    context = command.make_context("mpesa-sync", words[1:], resilient_parsing=True)
    rest = words[1:]
    while hasattr(command, "commands") and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context("mpesa-sync", list(rest), parent=context)  # parses, and runs nothing


def codes() -> set[str]:
    """Return the code of every error of ours for which an alert is raised."""
    found: set[str] = set()
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MpesaSyncError)
    ]
    for cls in classes:
        if issubclass(cls, ConfigurationError):
            continue
        try:
            error = cls("text")
        except TypeError:
            error = CredentialsUnusable("text", reason=AlertKind.SECRETS_UNREADABLE)
        if alert_for(error) is not None:
            found.add(error.code)
    return found


def test_every_kind_and_every_cause_has_words() -> None:
    """R5.2: no person reads a code alone; kinds, causes of alerts, and faults of channels."""
    assert set(alert_words.KINDS) == set(AlertKind)
    faults = {
        channels.REFUSED,
        channels.TIMED_OUT,
        channels.CHANNEL_GONE,
        channels.UNREADABLE,
    }
    assert len(codes()) >= 10
    for code in codes() | faults:
        assert alert_words.cause_of(code) != code, code
        assert alert_words.cause_of(code).endswith(".")


def test_the_index_names_every_page_by_its_title() -> None:
    """Docs are compared: the index in the documentation leads to each page."""
    for kind in AlertKind:
        assert f"| `{kind}` | [{alert_words.KINDS[kind].title}](../src/mpesa_sync/runbook/{kind}.md) |" in INDEX


def test_the_page_of_an_unknown_outcome_explains_what_is_shown() -> None:
    """R5.2, "verify": each word that `alerts show` says of the change; nobody judges by what explain calls the last."""
    page = runbook.source_of(AlertKind.OUTCOME_UNKNOWN)
    operation = StoredOperation(uuid4(), "switch", "applied", None, NOON)
    shown = [fate(AlertKind.OUTCOME_UNKNOWN, one) for one in (operation, replace(operation, outcome="failed"), None)]
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [one.outcome for one in shown]
    alert = alert_for(OutcomeUnknown("text"))
    assert alert is not None
    assert "alerts show" in alert.what_to_do
    assert "explain" not in alert.what_to_do


@every_kind
def test_a_page_explains_the_causes_of_its_kind(kind: AlertKind) -> None:
    """R5.2: what an alert calls its cause is found on the page that it links to."""
    causes = {
        AlertKind.SYNC_FAILED: ("pool_exhausted", "database_full"),
        AlertKind.DATABASE_REFUSED: ("constraint_refused", "trigger_refused", "access_denied", "integrity", "schema"),
        AlertKind.DRIFT_FOUND: ("left_drifted",),
        AlertKind.RECONCILER_BUDGET: ("budget_spent",),
        AlertKind.RECONCILER_STALE: ("no_success",),
        AlertKind.CHANNEL_FAILING: (channels.REFUSED, channels.TIMED_OUT, channels.UNREADABLE, SEVERAL),
        AlertKind.GUARD_BROKEN: ("guard_missing", "guard_disabled", "guard_powerless", "guard_outdated"),
    }
    for cause in causes.get(kind, ()):
        assert f"`{cause}`" in runbook.source_of(kind), cause
