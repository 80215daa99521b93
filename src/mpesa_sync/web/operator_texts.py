"""Every text of the pages for operators, by key: the one place to translate them.

The words of alerts themselves stand in `sync.alert_words`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mpesa_sync.web.fleet_texts import FLEET

TEXTS: Final[Mapping[str, str]] = {
    "alerts.title": "Alerts",
    "alerts.lead": "What needs a person. An alert is open until a success answers it, or until somebody resolves it.",
    "alerts.filter": "Which alerts",
    "alerts.open": "Open",
    "alerts.firing": "Firing",
    "alerts.acknowledged": "Acknowledged",
    "alerts.resolved": "Resolved",
    "alerts.all": "All",
    "alerts.of_bar": "Only those of one venue.",
    "alerts.of_all": "Show those of all venues",
    "alerts.none.open": "Nothing is open.",
    "alerts.none": "There is no such alert.",
    "alerts.older": "Older alerts",
    "alerts.newest": "Back to the newest",
    "alerts.spooled": "{count} more wait in files of this machine until the database can take them.",
    "alerts.spool_unread": "More may wait in files of this machine: their folder cannot be read.",
    "alerts.venue": "Venue",
    "alerts.no_venue": "No single venue",
    "alerts.gone": "A venue that is gone ({id})",
    "alerts.cause": "Cause",
    "alerts.do": "What to do",
    "alerts.seen": "Seen",
    "alerts.once": "once",
    "alerts.times": "{count} times",
    "alerts.since": "Since",
    "alerts.last": "Last",
    "alerts.episode": "Episode",
    "alerts.sqlstate": "SQLSTATE",
    "alerts.operation": "Operation",
    "alerts.fate": "What became of the change",
    "alerts.meaning": "What it means",
    "alerts.id": "Alert",
    "alerts.runbook": "How to mend it",
    "alerts.others": "All alerts of this venue",
    "alerts.back": "All alerts",
    "alerts.link": "Alerts",
    "state.firing": "Firing",
    "state.acknowledged": "Acknowledged",
    "state.resolved": "Resolved",
    "acknowledged": "Acknowledged by {who}",
    "resolved": "Resolved by {who}",
    "note": "Note: {note}",
    "act.title": "What you can do",
    "act.acknowledge": "Acknowledge",
    "act.acknowledge.hint": "Says that you are at it: nobody is reminded any more. It stays open.",
    "act.resolve": "Resolve",
    "act.resolve.hint": "Closes it. If the same happens again, a new alert is opened.",
    "act.note": "What was found or done",
    "act.note.hint": "One line, up to 500 characters; others read it here.",
    "done.acknowledged": "Acknowledged. Nobody is reminded any more; it stays open.",
    "done.resolved": "Resolved.",
    "error.note": "The note cannot be kept: {reason}. Nothing was changed.",
    "deliveries.title": "Who was told",
    "deliveries.none": "Nobody yet: no channel is set, or the background jobs have not come to it.",
    "deliveries.raised": "told",
    "deliveries.reminder": "reminded ({number})",
    "deliveries.resolved": "told that it is over",
    "deliveries.operators": "operators",
    "deliveries.owner": "the venue’s owner",
    "deliveries.pending": "Waiting",
    "deliveries.delivered": "Delivered",
    "deliveries.failed": "Given up",
    "deliveries.attempts": "{count} tries",
    "deliveries.attempt": "1 try",
    "channels.title": "Channels",
    "channels.none": "No message has been sent yet.",
    "channels.works": "Works",
    "channels.fails": "Fails",
    "channels.waiting": "Not tried yet",
    "channels.since": "since",
    "channels.last": "last message",
    "channels.never": "never delivered a message",
    "only_operators": "This page is for operators.",
    "runbook.title": "Runbook",
    "runbook.others": "Other kinds of alerts",
    **FLEET,
}
"""Every text by its key, in English."""


def text(key: str, **values: object) -> str:
    """Return the text of a key with `values` in its `{places}`.

    Raises:
        KeyError: there is no such text, or one of its places has no value.
    """
    return TEXTS[key].format_map(values)
