"""A canary goes into the logs in every way that a secret could, and never comes out (faults.md, spec 5)."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal
from urllib.parse import quote

import pytest
import structlog

from mpesa_sync.monitoring import logs
from mpesa_sync.secret import Secret

CANARY: Final = 'canary"7f3a/9c51+d2é'
SAFE: Final = "canary7f3a9c51d2"
"""For places that cannot hold every character, such as a URL."""
ENCODINGS: Final = {
    "plain": CANARY,
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "hex": CANARY.encode().hex(),
    "url": quote(CANARY, safe=""),
    "json": json.dumps(CANARY)[1:-1],
}
NAMES: Final = [
    "secret",
    "consumer_secret",
    "consumer_key",
    "mpesa_consumer_key_encrypted",
    "passkey",
    "mpesa_passkey",
    "password",
    "Password",
    "token",
    "access_token",
    "Authorization",
    "cookie",
    "set_cookie",
    "kms_key",
    "MPESA_KMS_KEY",
    "jwt_secret",
    "security_credential_enc",
]


def traces(output: str) -> list[str]:
    """Which encodings of the canary are in a text."""
    found = [name for name, text in ENCODINGS.items() if text in output]
    return found + ["safe"] * (SAFE in output)


@pytest.fixture(params=["json", "console"])
def written(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Configure the logs in one of their forms; give a function that returns what has been written."""
    root = logging.getLogger("mpesa_sync")
    level, propagate = root.level, root.propagate
    form: Literal["json", "console"] = request.param
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        logs.configure(form=form)
    ours = root.handlers[0]
    yield stderr.getvalue
    root.removeHandler(ours)
    root.setLevel(level)
    root.propagate = propagate


FIELDS: Final[dict[str, dict[str, Any]]] = {
    "a Secret": {"value": Secret(CANARY)},
    "a Secret in a list": {"values": [1, Secret(CANARY)], "pair": (Secret(CANARY),), "set": {Secret(CANARY)}},
    "a Secret in dicts": {"body": {"outer": {"inner": [Secret(CANARY)]}}},
    "a Secret in an error": {"error": ValueError("refused", Secret(CANARY))},
    "a Secret formatted": {"text": f"the key {Secret(CANARY)}"},
    "bytes": {"value": SAFE.encode(), "body": {"value": [SAFE.encode()]}, "more": bytearray(SAFE.encode())},
    "a URL": {"url": f"postgresql://asha:{SAFE}@db.example:5432/bars"},
    "a URL inside a sentence": {"text": f"cannot reach postgresql://asha:{SAFE}@db/bars now"},
    "a URL with an @ in its password": {"url": f"postgresql://asha:a@{SAFE}@db/bars"},
    "a URL with a / in its password": {"url": f"postgresql://asha:a/{SAFE}@db/bars"},
    "a URL with the password in its query": {"url": f"postgresql://db/bars?user=asha&password={SAFE}&x=1"},
    "a URL without a user": {"urls": [f"smtp://:{SAFE}@mail"], "more": {"url": f"redis://:{SAFE}@h"}},
    **{f"a field called {name}": {name: text} for name in NAMES for text in [CANARY]},
    **{f"a nested field, {kind}": {"body": {"data": [{"passkey": text}]}} for kind, text in ENCODINGS.items()},
    "a list under a telling name": {"tokens": [CANARY, {"x": CANARY}], "passwords": (CANARY,)},
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_a_secret_never_reaches_the_log(written: Callable[[], str], fields: dict[str, Any]) -> None:
    """Spec 5: redaction by type, by name and inside of URLs, in both forms; the event itself is still there."""
    logs.get("test").info("something.happened", bar_id="b-1", **fields)
    output = written()
    assert "something.happened" in output
    assert "b-1" in output
    assert "***" in output
    assert traces(output) == []


def test_a_secret_bound_to_a_logger_or_to_its_context_never_reaches_the_log(written: Callable[[], str]) -> None:
    """Spec 5: what is bound beforehand goes the same way as what is said at once."""
    with structlog.contextvars.bound_contextvars(request_token=CANARY, url=f"http://a:{SAFE}@b"):
        logs.get("test").bind(passkey=CANARY, raw=CANARY.encode()).error("something.failed", owner=Secret(CANARY))
    output = written()
    assert "something.failed" in output
    assert traces(output) == []


def test_a_traceback_shows_no_locals(written: Callable[[], str]) -> None:
    """faults.md 2: no locals in tracebacks."""

    def fail(passkey: str) -> None:
        raise RuntimeError(f"failed with {len(passkey)} characters at http://asha:{SAFE}@host")

    try:
        fail(CANARY)
    except RuntimeError:
        logs.get("test").exception("something.broke")
    output = written()
    assert f"failed with {len(CANARY)} characters" in output
    assert traces(output) == []


def test_what_is_no_secret_stays_readable(written: Callable[[], str]) -> None:
    """A redaction that hides everything would be of no use: ids, hosts, counts and SQLSTATEs are kept."""
    logs.get("test").info("kept", url="postgresql://asha:x@db.example:5432/bars", sqlstate="23514", attempt=2, key="k")
    output = written()
    assert all(text in output for text in ("asha", "db.example:5432/bars", "23514", "2", "kept"))


def test_the_canary_would_be_seen_without_redaction() -> None:
    """The twin: with the redaction taken out of both chains the same fields do show the canary."""
    meta = structlog.stdlib.ProcessorFormatter
    stderr = io.StringIO()
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(meta(processors=[meta.remove_processors_meta, structlog.processors.JSONRenderer()]))
    plain = logging.Logger("plain")  # noqa: LOG001 - no part of the tree that the other tests configure
    plain.addHandler(handler)
    bare = structlog.wrap_logger(
        plain, processors=[meta.wrap_for_formatter], wrapper_class=structlog.stdlib.BoundLogger
    )
    bare.warning("something.happened", passkey=ENCODINGS["base64"], url=f"postgresql://asha:{SAFE}@db/bars")
    assert traces(stderr.getvalue()) == ["base64", "safe"]
