"""The command line as a whole: help, wrong usage, the wrong place, a database that is away, secrets in messages."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer.main

from mpesa_sync.cli import main, output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.session import Invocation, settings_of
from mpesa_sync.secret import Secret
from tests.support.cli import cli, environment, with_password

PASSWORD = "hunter2-is-secret"
AWAY = f"postgresql://staff:{PASSWORD}@127.0.0.1:1/shop"


def _commands(group: object, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands(command, *path, name)


COMMANDS = list(_commands(typer.main.get_command(main.build())))
WORKING = [["check", "--json"], ["explain", "x"], ["repair", "x"], ["db", "init"], ["db", "uninstall", "--yes"]]


def test_every_secret_of_the_settings_is_hidden_by_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """K: none appears in what is printed about an error; whatever setting is a secret, with no list kept by hand."""
    for name in [name for name in os.environ if name.startswith("MPESA")]:
        monkeypatch.delenv(name)
    hidden = {
        "MPESA_SYNC_DATABASE_URL": [AWAY],
        "MPESA_SYNC_LISTEN_URL": [f"{AWAY}_direct"],
        "MPESA_SYNC_JWT_SECRET": ["j" * 32],
        "MPESA_KMS_KEY": ["k" * 32],
        "MPESA_SYNC_OLD_KMS_KEYS": ["o" * 32, "p" * 32],
        "MPESA_SYNC_ALERT_URLS": ["json://127.0.0.1/one", "json://127.0.0.1/two"],
    }
    for name, values in hidden.items():
        monkeypatch.setenv(name, values[0] if len(values) == 1 else json.dumps(values))
    context: Any = SimpleNamespace(obj=Invocation())
    settings = settings_of(context, f"{AWAY}_option")
    assert all(getattr(settings, one.name) for one in fields(settings) if "Secret" in str(one.type)), "all are set here"
    known = {secret.reveal() for secret in context.obj.secrets}
    assert known == {f"{AWAY}_option", *(value for values in hidden.values() for value in values)}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example(path: tuple[str, ...]) -> None:
    """Spec 6: --help with examples on every command, on stdout, at most 80 columns wide."""
    ended = cli(*path, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 80
    is_group = path in {("alerts",), ("db",), ("guard",), ("keys",), ("staff",)}
    if not is_group:
        assert "Examples:" in ended.out
        assert " ".join(("  mpesa-sync", *path)) in ended.out


def test_the_version_is_told() -> None:
    """Spec 6: --version, as a result on stdout."""
    ended = cli("--version")
    assert ended.code == 0
    assert ended.out.startswith("mpesa-sync ")


WRONG = [
    pytest.param([], id="nothing"),
    pytest.param(["db"], id="a group alone"),
    pytest.param(["chek"], id="an unknown command"),
    pytest.param(["check", "--jsn"], id="an unknown option"),
    pytest.param(["check", "more"], id="too many arguments"),
    pytest.param(["explain"], id="a missing argument"),
    pytest.param(["repair", "x", "--authority", "bars"], id="a value out of its list"),
    pytest.param(["check", "--database-url"], id="an option without its value"),
    pytest.param(["check", "--database-url", ""], id="an empty URL"),
    pytest.param(["check", "--database-url", "shop.db"], id="no URL"),
]


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_usage_is_64_and_never_drift(arguments: list[str]) -> None:
    """Spec 6: 64 is usage; 2, which libraries like to use for it, means drift here."""
    ended = cli(*arguments, url=AWAY)
    assert ended.code == 64
    assert ended.out == ""
    assert ended.err
    assert PASSWORD not in ended.err


def test_a_url_among_the_arguments_is_not_echoed_with_its_password() -> None:
    """K: an error about the command line shows no password that stands in it."""
    ended = cli("check", AWAY)
    assert ended.code == 64
    assert "unexpected extra argument" in ended.err
    assert PASSWORD not in ended.err


@pytest.mark.parametrize("arguments", WORKING, ids=" ".join)
def test_no_named_database_is_refused(arguments: list[str], tmp_path: Path) -> None:
    """Spec 6: "0 bars, in sync" is never said of the wrong place; the message names what to set."""
    ended = cli(*arguments, cwd=tmp_path, DATABASE_URL=AWAY)
    assert (ended.code, ended.out) == (64, "")
    assert "MPESA_SYNC_DATABASE_URL" in ended.err
    assert "--database-url" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_variable_does_not_fall_back_to_another_database(tmp_path: Path) -> None:
    """Spec 6, 7: set but empty is usually a variable that was not filled in: refused by name."""
    ended = cli("check", cwd=tmp_path, MPESA_SYNC_DATABASE_URL="")
    assert ended.code == 64
    assert "MPESA_SYNC_DATABASE_URL is empty" in ended.err


def test_all_wrong_settings_are_named_at_once() -> None:
    """Spec 7: by name, without content, exit code 64."""
    ended = cli("check", url="mysql://x", MPESA_KMS_KEY=PASSWORD, MPESA_SYNC_ALLOW_SANDBOX=PASSWORD)
    assert (ended.code, ended.out) == (64, "")
    for name in ("MPESA_SYNC_DATABASE_URL", "MPESA_KMS_KEY", "MPESA_SYNC_ALLOW_SANDBOX"):
        assert name in ended.err
    assert PASSWORD not in ended.err


@pytest.mark.parametrize("arguments", WORKING[::2], ids=" ".join)
def test_a_database_that_is_away_is_one_clear_line(arguments: list[str]) -> None:
    """faults.md: database down at begin; the exit code is 1, and the place that was tried is named."""
    ended = cli(*arguments, url=AWAY)
    assert (ended.code, ended.out) == (1, "")
    place, error = ended.err.splitlines()
    assert place == "Database: shop on 127.0.0.1:1 (from MPESA_SYNC_DATABASE_URL)"
    assert error == (
        "Error: The database cannot be reached: nothing listens at this host and port. Does PostgreSQL run there?"
    )


def test_a_silent_server_is_given_up_within_six_seconds() -> None:
    """faults.md: never a hang, also where the port is open and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        ended = cli("check", url=f"postgresql://u:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/shop")
        assert time.monotonic() - started < 6
    assert ended.code == 1
    assert "cannot be reached" in ended.err
    assert PASSWORD not in ended.err


def test_a_database_that_does_not_exist_is_said(server_url: str) -> None:
    """Spec 6: the wrong place, told apart from one that is away."""
    ended = cli("check", url=urlsplit(server_url)._replace(path="/nowhere").geturl())
    assert ended.code == 1
    assert "There is no database of this name on the server." in ended.err


def test_a_wrong_password_is_said_and_not_shown(database_url: str) -> None:
    """K: the password that was tried is in no output."""
    ended = cli("check", url=with_password(database_url, PASSWORD))
    assert ended.code == 1
    assert "does not accept this user name and password" in ended.err
    assert PASSWORD not in ended.out + ended.err


def test_the_identity_is_printed_first(database_url: str) -> None:
    """Spec 6: host, database and server version on stderr, before anything is said about it."""
    parts = urlsplit(database_url)
    for arguments in WORKING:
        first = cli(*arguments, url=database_url).err.splitlines()[0]
        assert first.startswith(f"Database: {parts.path[1:]} on {parts.hostname}:{parts.port}, PostgreSQL 1"), arguments
        assert "MPESA_SYNC_DATABASE_URL" in first
        assert str(parts.password) not in first


def test_the_option_outranks_the_variable(database_url: str) -> None:
    """Spec 6: --database-url or the environment, and the identity says which it was."""
    ended = cli("check", "--database-url", database_url, url=AWAY)
    assert ended.code == 0
    assert ended.err.splitlines()[0].endswith("(from --database-url)")


def test_debug_shows_where_an_error_came_from_without_secrets() -> None:
    """K: a traceback with --debug only, and no password in it."""
    plain, debug = cli("check", url=AWAY), cli("--debug", "check", url=AWAY)
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert debug.code == plain.code == 1
    assert PASSWORD not in debug.err


def test_an_unexpected_error_is_short(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """K: what nobody foresaw ends with words and 1, and neither its text nor local variables are shown."""

    def broken() -> typer.Typer:
        app = typer.Typer()
        app.callback()(lambda: None)

        @app.command("check")
        def check() -> None:
            raise RuntimeError(AWAY)

        return app

    monkeypatch.setitem(main.__dict__, "build", broken)
    assert main.main(["check"]) == ExitCode.ERROR
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "RuntimeError" in seen.err
    assert "shop" not in seen.err


@pytest.mark.parametrize(
    "text",
    [f"see {AWAY}", f"postgresql://h/d?password={PASSWORD}&x=1", f"postgresql://u:{PASSWORD}@x@h/d", f"key {PASSWORD}"],
    ids=["a URL", "a parameter", "an at sign in the password", "a known secret"],
)
def test_texts_for_people_lose_their_secrets(text: str) -> None:
    """K: the one function that every traceback and every usage error goes through."""
    assert PASSWORD not in output.without_secrets(text, [Secret(PASSWORD)] if text.startswith("key") else ())


def test_control_characters_cannot_reach_a_terminal() -> None:
    """faults.md: a bar's name may hold anything; it does not steer the operator's terminal."""
    assert output.printable("a\x1b[31mb\u202ec\nd") == "a\ufffd[31mb\ufffdc\ufffdd"


def test_interrupting_ends_with_130() -> None:
    """Spec 6: Ctrl-C is 130, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "mpesa_sync", "check"],
            env=environment(f"postgresql://u@127.0.0.1:{port}/shop"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(30)
        connection, _ = silent.accept()  # it is inside its work now
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        connection.close()
    assert (process.returncode, out) == (130, "")
    assert "Interrupted." in err
    assert "Traceback" not in err


def test_a_closed_pipe_is_no_traceback(database_url: str) -> None:
    """Spec 6: `mpesa-sync check | head` does not end in a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "mpesa_sync", "check", "--json"],
        env=environment(database_url),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
