"""Reads the values of one environment by name, and collects what is wrong with them, without their content."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from mpesa_sync.secret import KMS_KEY_LENGTH, Secret, kms_key_fault

T = TypeVar("T")

MIN_JWT_SECRET_LENGTH: Final = 32
_LAST_PORT: Final = 65_535
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def database_url_fault(text: str) -> str | None:
    """Return what is wrong with the shape of a database URL, without its content; None where nothing is."""
    if not text.strip():
        return "is empty"
    if not text.startswith(("postgresql://", "postgres://")) or any(c.isspace() or not c.isprintable() for c in text):
        return "must look like postgresql://user:password@host:port/database"
    try:
        hosts = urlsplit(text).netloc.rpartition("@")[2].split(",")
        ports = [SplitResult("", host, "", "", "").port for host in hosts]
    except ValueError:
        ports = [0]
    if 0 in ports:
        return "cannot be read; in a password the characters / ? # [ ] are written as %2F %3F %23 %5B %5D"
    return None


def alert_url_fault(text: str) -> str | None:
    """Return what is wrong with the shape of the URL of an alert channel, without its content; None: nothing is."""
    if not re.match("[A-Za-z][A-Za-z0-9+.-]*://.", text) or any(c.isspace() or not c.isprintable() for c in text):
        return "must look like service://…, as Apprise writes it"
    return None


def origin_fault(text: str) -> str | None:
    """Return why a text is no origin as a browser sends it, without its content; None where it is one."""
    found = re.fullmatch(r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:]+\])(?::([1-9][0-9]{0,4}))?", text)
    if found is None:
        return "must be an origin as browsers send it: https://host or https://host:port, in small letters, no path"
    if found[3] == _DEFAULT_PORTS[found[1]]:
        return f"must be written without :{found[3]}, as browsers do"
    return None


def network_fault(text: str) -> str | None:
    """Return why a text is no IP address and no network, without its content; None where it is one."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return "must be an IP address or a network, such as 10.0.0.5 or 10.0.0.0/8"
    return "would trust everybody" if network.prefixlen == 0 else None


class Reader:
    """Reads one environment, and collects what is wrong with it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []

    def _text(self, name: str) -> str | None:
        """Return a value. Set but empty is a fault: it usually is another variable that was not set."""
        text = self.environ.get(name)
        if text is not None and not text.strip():
            self.faults.append(f"{name} is empty: give it a value, or do not set it")
            return None
        return text

    def database_url(self, name: str) -> Secret | None:
        text = self._text(name)
        if text is None:
            return None
        if fault := database_url_fault(text):
            self.faults.append(f"{name} {fault}")
            return None
        return Secret(text)

    def line(self, name: str) -> str | None:
        """Return a text of printable characters without white space inside."""
        text = self._text(name)
        if text is None:
            return None
        text = text.strip()
        if any(c.isspace() or not c.isprintable() for c in text):
            self.faults.append(f"{name} must be one word of printable characters")
            return None
        return text

    def path(self, name: str) -> Path | None:
        """Return a path of printable characters."""
        text = self._text(name)
        if text is None:
            return None
        if not text.isprintable():
            self.faults.append(f"{name} must be a path of printable characters")
            return None
        return Path(text)

    def port(self, name: str, default: int) -> int:
        return self.number(name, default, most=_LAST_PORT, zero=" (any free port)")

    def number(self, name: str, default: int, *, most: int, least: int = 0, zero: str = "") -> int:
        """Return a whole number from `least`, whose meaning `zero` may say, to `most`."""
        text = self._text(name)
        if text is None:
            return default
        if not re.fullmatch("[0-9]{1,9}", text.strip()) or not least <= int(text) <= most:
            self.faults.append(f"{name} must be a number from {least}{zero} to {most}")
            return default
        return int(text)

    def http_url(self, name: str) -> str | None:
        text = self.line(name)
        if text is not None and not text.startswith(("https://", "http://")):
            self.faults.append(f"{name} must look like https://host/path")
            return None
        return text

    def origins(self, name: str) -> tuple[str, ...]:
        """Return origins as browsers send them, each listed in full: a pattern would let in more than was meant."""
        found = self._listed(name)
        for position, text in enumerate(found, start=1):
            if fault := origin_fault(text):
                self.faults.append(f"{name}, origin {position} of {len(found)}, {fault}")
        return found

    def networks(self, name: str) -> tuple[str, ...]:
        """Return IP addresses, and networks such as 10.0.0.0/8."""
        found = self._listed(name)
        for position, text in enumerate(found, start=1):
            if fault := network_fault(text):
                self.faults.append(f"{name}, entry {position} of {len(found)}, {fault}")
        return found

    def _listed(self, name: str) -> tuple[str, ...]:
        text = self._text(name)
        return () if text is None else tuple(part.strip() for part in text.split(","))

    def jwt_secret(self, name: str) -> Secret | None:
        text = self._text(name)
        if text is None:
            return None
        if len(text) < MIN_JWT_SECRET_LENGTH:
            self.faults.append(f"{name} has {len(text)} characters; it must have at least {MIN_JWT_SECRET_LENGTH}")
            return None
        return Secret(text)

    def kms_key(self, name: str) -> Secret | None:
        text = self._text(name)
        if text is None:
            return None
        if fault := kms_key_fault(text):
            self.faults.append(_key_fault(name, fault))
            return None
        return Secret(text)

    def alert_urls(self, name: str) -> tuple[Secret, ...]:
        text = self._text(name)
        if text is None:
            return ()
        urls = _json(text)
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            self.faults.append(f'{name} must be a JSON list of texts, such as ["slack://…", "mailto://…"]')
            return ()
        for position, url in enumerate(urls, start=1):
            if fault := alert_url_fault(url):
                self.faults.append(f"{name}, URL {position} of {len(urls)}, {fault}")
        return tuple(Secret(url) for url in urls)

    def old_kms_keys(self, name: str, *, newest: str) -> tuple[Secret, ...]:
        text = self._text(name)
        if text is None:
            return ()
        if newest not in self.environ:
            self.faults.append(f"{name} is set and {newest} is not: it names the key that encrypts")
        keys = _json(text)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            self.faults.append(f'{name} must be a JSON list of texts, such as ["…", "…"]')
            return ()
        for position, key in enumerate(keys, start=1):
            if fault := kms_key_fault(key):
                self.faults.append(_key_fault(f"{name}, key {position} of {len(keys)},", fault))
        return tuple(Secret(key) for key in keys)

    def chosen(self, name: str, values: Mapping[str, T]) -> T | None:
        """Return what one of a few words means, whatever its case."""
        text = self._text(name)
        if text is None:
            return None
        word = text.strip().lower()
        if word not in values:
            self.faults.append(f"{name} must be one of {', '.join(sorted(values))}")
            return None
        return values[word]


def _json(text: str) -> object:
    """Return the value of a JSON text, None where it is none: the decoder's error would carry the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _key_fault(name: str, fault: str) -> str:
    return f"{name} {fault}; it must be exactly {KMS_KEY_LENGTH} ASCII characters"
