"""Templates become HTML here, and static files get addresses that change with their content. No route, no I/O later.

Everything is read once, at its first use: a page is put together from memory.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import jinja2

from mpesa_sync.web.customer_texts import Words
from mpesa_sync.web.operator_texts import text as operator_text
from mpesa_sync.web.texts import TEXTS, text
from mpesa_sync.web.views import plain

_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_IMPORT: Final = re.compile(r'(?<=from "\./)[a-z]+\.js(?=")')


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file: its bytes, its media type, and a digest of the content (16 hex digits)."""

    name: str
    body: bytes
    content_type: str
    digest: str

    @property
    def url(self) -> str:
        """Return its address; another content has another address, so it may be cached for ever."""
        return f"/static/{self.name}?v={self.digest}"


@functools.cache
def assets() -> Mapping[str, Asset]:
    """Return every static file by its name."""
    folder = resources.files("mpesa_sync.web") / "static"
    texts = {entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.name.split(".")[-1] in _TYPES}
    found: dict[str, Asset] = {}

    def load(name: str) -> Asset:
        if name not in found:
            # A module that is imported gets its digest into the importing one, whose digest then follows it.
            linked = _IMPORT.sub(lambda match: f"{match[0]}?v={load(match[0]).digest}", texts[name])
            body = linked.encode()
            digest = hashlib.sha256(body).hexdigest()[:16]
            found[name] = Asset(name, body, _TYPES[name.split(".")[-1]], digest)
        return found[name]

    for name in texts:
        load(name)
    return found


def static_url(name: str) -> str:
    """Return the address of a static file.

    Raises:
        KeyError: there is no such file.
    """
    return assets()[name].url


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mpesa_sync.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(lang="en", t=text, op=operator_text, has_text=TEXTS.__contains__, static=static_url)
    environment.filters["plain"] = plain
    return environment


def render(template_name: str, *, words: Words | None = None, **context: Any) -> str:
    """Return a page as HTML. Every template takes `view`, a value of `web.views` of its own kind.

    Whatever the value holds is escaped; lone surrogates, which no encoding carries, become question marks.

    Arguments:
        words: the language of a customer's page; None: all texts are English.
    Raises:
        jinja2.UndefinedError: the context lacks something that the template names.
    """
    if words is not None:
        context |= {"t": words.text, "lang": words.language}
    html = _environment().get_template(template_name).render(**context)
    return html.encode("utf-8", "replace").decode("utf-8")
