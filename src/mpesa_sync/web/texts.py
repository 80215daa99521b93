"""Every text that a person reads on our pages, by key: the one place to translate.

The words are for a venue's staff; those of a venue's M-Pesa page stand in `mpesa_texts`, those for its customers in
`customer_texts`, by language, those for operators in `domain.remedies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mpesa_sync.domain.availability import BarWarning, Reason
from mpesa_sync.web.customer_texts import ENGLISH
from mpesa_sync.web.mpesa_texts import MPESA

_SHELL: Final = {
    "site.name": "M-Pesa for venues",
    "site.venues": "Your venues",
    "site.sign_out": "Sign out",
    "site.signed_in_as": "Signed in as {name}",
    "sign_in.title": "Sign in",
    "sign_in.lead": "For the staff of a venue.",
    "sign_in.name": "Name",
    "sign_in.password": "Password",
    "sign_in.button": "Sign in",
    "sign_in.help": "Forgotten it? Ask whoever gave you the account: passwords are never shown, only set anew.",
    "sign_in.refused": "Name and password do not belong together. Please try again.",
    "sign_in.wait": "Too many tries. Please wait {minutes} and try again.",
    "sign_in.minute": "a minute",
    "sign_in.minutes": "{count} minutes",
    "sign_in.failed": "Signing in is not possible right now. Please try again in a minute.",
    "venues.title": "Your venues",
    "venues.lead": "What your customers see at each of them now.",
    "venues.live": "Up to date: checked every 15 seconds.",
    "venues.not_live": "Not followed: load the page again to be sure.",
    "venues.none": "No venue belongs to your account yet. Ask its owner, or whoever gave you the account.",
    "venues.operator": "You are an operator: no venue belongs to your account. All venues stand on a page of "
    "their own; what they need is done on the command line: mpesa-sync check, explain, repair and migrate.",
    "venues.menu": "Customers' page",
    "role.owner": "owner",
    "role.manager": "manager",
    "role.staff": "staff",
}

_PROBLEM: Final = {
    "problem.400.title": "That did not work",
    "problem.400.text": "The page sent something that we do not understand. Go back, load the page again and try anew.",
    "problem.401.title": "Please sign in",
    "problem.401.text": "You are not signed in, or not any more.",
    "problem.403.title": "You may not do this",
    "problem.403.text": "Your account may look here, and not change anything. Ask an owner or a manager of the venue. "
    "If you may, the page was too old: go back and load it again.",
    "problem.404.title": "There is no such page",
    "problem.404.text": "The address is wrong, or the venue is not one of yours.",
    "problem.409.title": "That is not possible now",
    "problem.409.text": "Something else has to be put right first. Nothing was changed.",
    "problem.429.title": "Too many requests",
    "problem.429.text": "Please wait a minute and try again.",
    "problem.500.title": "Something went wrong",
    "problem.500.text": "It is our fault, not yours, and it is on record. Nothing was half saved.",
    "problem.503.title": "Not available right now",
    "problem.503.text": "We cannot reach our database. Please try again in a minute.",
    "problem.unknown": "We do not know whether this was saved. Go back and load the page again: it shows what is "
    "stored. Repeat it if need be.",
    "problem.again": "Try again",
    "problem.home": "Your venues",
    "problem.sign_in": "Sign in",
    "problem.reference": "Reference for support: {reference}",
}

_DEMO: Final = {
    "demo.title": "Demo",
    "demo.lead": "One fact in two places: staff switch M-Pesa in one field, customers' pages read another. Here are "
    "both apps of a venue, on one database. Break something, see what each of them shows, and mend it.",
    "demo.venues": "Sample venues",
    "demo.venue": "Venue",
    "demo.state": "Its state at the start",
    "demo.compared": "Compared",
    "demo.drift": "drifted",
    "demo.alike": "alike",
    "demo.values": "Both fields, as stored",
    "demo.staff": "Staff",
    "demo.customer": "Customer",
    "demo.sign_in": "Sign in as {name}",
    "demo.sign_in.hint": "The owner of all sample venues. Without a password, in the demo only; the password of this "
    "run stands in the terminal.",
    "demo.own_tab": "Open in a tab of its own",
    "demo.break": "Break it",
    "demo.mend": "Mend it",
    "demo.result": "What happened",
    "demo.close": "Close",
    "demo.failed": "The demo did not answer. Load the page again.",
}

_REASONS: Final[Mapping[Reason, tuple[str, str]]] = {
    Reason.PAUSED: (
        "M-Pesa is paused by the people who run this service. Your switch stays as it is.",
        "Wait until the pause is over, or ask them how long it will take.",
    ),
    Reason.BAR_INACTIVE: (
        "Your venue is marked as closed on the platform.",
        "If you are open, ask the platform's support to open it. M-Pesa follows by itself.",
    ),
    Reason.NO_CREDENTIALS: (
        "No M-Pesa credentials are stored for your venue.",
        "Enter them on this venue's page, save, and switch M-Pesa on.",
    ),
    Reason.DRIFT_EXPOSED: (
        "M-Pesa is switched off, but the setting that other customer pages read still says on: they may show a "
        "button that cannot work.",
        "Press “Switch M-Pesa off” once more: it sets both to off.",
    ),
    Reason.SWITCHED_OFF: (
        "M-Pesa is switched off.",
        "Nothing is wrong. Switch it on when you want customers to see it.",
    ),
    Reason.DRIFT_HIDDEN: (
        "M-Pesa is switched on, but the setting that customer pages read still says off.",
        "Press “Switch M-Pesa on” once more: it sets both to on.",
    ),
    Reason.SANDBOX_NOT_ALLOWED: (
        "The credentials in use are for tests (sandbox); customers cannot pay with them.",
        "Save your production credentials and switch M-Pesa on with them.",
    ),
    Reason.SECRETS_UNREADABLE: (
        "The stored key, secret and passkey cannot be opened.",
        "Enter all three again and save. If this comes back, tell the people who run this service.",
    ),
    Reason.SECRETS_MALFORMED: (
        "The stored key, secret or passkey is incomplete, or only an example.",
        "Enter all three again, as the Daraja portal shows them, and save.",
    ),
    Reason.CREDENTIALS_REJECTED: (
        "M-Pesa refused these credentials when they were last tried.",
        "Compare them with the Daraja portal, enter them again and save.",
    ),
}
"""Of every reason: what it means for a venue, and what the venue can do."""

_WARNINGS: Final[Mapping[BarWarning, str]] = {
    BarWarning.NULL_FLAG: "The setting that customer pages read is empty; that counts as off. Nothing has to be done.",
    BarWarning.TWO_ACTIVE: "Sandbox and production are both in use; production counts. Switch M-Pesa on again to "
    "keep only one.",
    BarWarning.SANDBOX_ACTIVE: "Sandbox credentials are in use. Customers cannot pay with them: save production ones.",
    BarWarning.INACTIVE_BAR_ON: "M-Pesa is on while your venue is marked as closed. Customers are not offered it.",
    BarWarning.LEGACY_FLAG_DIFFERS: "An older setting says something else. Tell the people who run this service if "
    "an old customer page shows the wrong thing.",
    BarWarning.ENVIRONMENT_DIFFERS: "The venue's record names another environment than the one in use. Nothing has "
    "to be done.",
    BarWarning.STALE_AUTHORITY: "Your credentials are stored in an older place. Tell the people who run this service "
    "before you switch.",
}

TEXTS: Final[Mapping[str, str]] = {
    **ENGLISH,
    **_SHELL,
    **MPESA,
    **_PROBLEM,
    **_DEMO,
    **{f"reason.{reason}": meaning for reason, (meaning, _) in _REASONS.items()},
    **{f"remedy.{reason}": remedy for reason, (_, remedy) in _REASONS.items()},
    **{f"warning.{warning}": sentence for warning, sentence in _WARNINGS.items()},
}
"""Every text by its key, in English."""


def text(key: str, **values: object) -> str:
    """Return the text of a key with `values` in its `{places}`.

    Raises:
        KeyError: there is no such text, or one of its places has no value.
    """
    return TEXTS[key].format_map(values)


def scripts(prefix: str) -> dict[str, str]:
    """Return the texts whose keys begin with `prefix`, by the rest of the key: what a page hands to its script."""
    return {key.removeprefix(prefix): sentence for key, sentence in TEXTS.items() if key.startswith(prefix)}
