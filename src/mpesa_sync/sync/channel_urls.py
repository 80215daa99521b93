"""The URLs of channels that messages go out over: which are fit for use, and the short name that may be shown.

A URL holds a token or a password. It comes from the environment or the command line, never over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

from mpesa_sync.errors import InvalidInput
from mpesa_sync.secret import Secret
from mpesa_sync.settings_reader import alert_url_fault

LOCAL: Final = frozenset(
    {"dbus", "kde", "qt", "glib", "gio", "gnome", "macosx", "windows", "syslog", "blink1", "vapid", "fcm"}
)
"""Services that run something on this machine or read its files: a message about money goes to people elsewhere."""
READ_LIMIT_S: Final = 15.0
"""How long a service may say nothing: Apprise's own 4 s would send a message twice where a service is merely slow."""
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*(?=://)")
_DIGITS: Final = 4
_PORTS: Final = range(1, 65_536)


def service_of(url: Secret) -> str:
    """Return the service that a URL names, `slack` of slack://…; "channel" where it names none."""
    found = _SCHEME.match(url.reveal().lower())
    return found[0] if found else "channel"


def name_of(url: Secret, salt: bytes, *, digits: int = _DIGITS) -> str:
    """Return what a channel is called where its URL must not be shown: `slack-3fa2`.

    Arguments:
        salt: of the installation, so that nobody can try URLs against the name.
        digits: hexadecimal ones, at most 64.
    """
    print_ = blake2b(url.reveal().encode("utf-8", "surrogatepass"), key=salt[:64], digest_size=32).hexdigest()
    return f"{service_of(url)}-{print_[:digits]}"


def named(urls: Iterable[Secret], salt: bytes) -> dict[str, Secret]:
    """Return the operators' channels by their short names; the same URL twice is one channel.

    Arguments:
        urls: in the order of the settings: where two would share a name, the later one's has more digits.
        salt: of the installation.
    """
    found: dict[str, Secret] = {}
    for url in urls:
        names = (name_of(url, salt, digits=digits) for digits in range(_DIGITS, 65))
        found[next(name for name in names if found.get(name, url) == url)] = url
    return found


def asset() -> Any:
    """Return what every Apprise object of ours is made with: nothing on disk, no redirects, one thread: the caller's.

    Time is limited by whoever sends, so that no pool of threads has to be waited for at the end of the program.
    """
    from apprise import AppriseAsset  # here: it takes a third of a second, and most commands send nothing

    return AppriseAsset(
        app_id="mpesa-sync",
        app_desc="mpesa-sync alerts",
        app_url="",
        async_mode=False,
        service_timeout=0,
        storage_mode="memory",
        pgp_autogen=False,
        pem_autogen=False,
        http_redirects=False,
        interpret_escapes=False,
        interpret_emojis=False,
        allow_templates=False,
    )


def service(url: Secret) -> Any:
    """Return what Apprise sends to this URL with.

    Raises:
        InvalidInput: it cannot be used; the text does not repeat it.
    """
    text = url.reveal()
    if fault := alert_url_fault(text):
        raise InvalidInput("channel", fault)
    if service_of(url) in LOCAL:
        raise InvalidInput("channel", f"{service_of(url)}:// stays on this machine: use a service that reaches people")
    from apprise import Apprise

    made = Apprise.instantiate(text, asset=asset())
    if made is None:
        raise InvalidInput("channel", "is not a URL that Apprise knows, or lacks a part that its service needs")
    if isinstance(made.port, int) and made.port not in _PORTS:
        raise InvalidInput("channel", f"has a port that there is none of: it must be from 1 to {_PORTS[-1]}")
    if made.socket_read_timeout == type(made).socket_read_timeout:  # no ?rto=… says otherwise
        made.socket_read_timeout = READ_LIMIT_S
    return made
