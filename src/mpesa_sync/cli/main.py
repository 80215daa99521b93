"""The entry point: puts the commands together, and turns every ending into a message and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TextIO

import typer
import typer.main

from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode, of_error
from mpesa_sync.cli.options import examples
from mpesa_sync.cli.session import Invocation
from mpesa_sync.errors import ConfigurationError, MpesaSyncError

PROGRAM: Final = "mpesa-sync"

COMMANDS: Final = (
    "mpesa_sync.cli.demo",
    "mpesa_sync.cli.serve",
    "mpesa_sync.cli.worker",
    "mpesa_sync.cli.check",
    "mpesa_sync.cli.explain",
    "mpesa_sync.cli.migrate",
    "mpesa_sync.cli.repair",
    "mpesa_sync.cli.guard",
    "mpesa_sync.cli.db",
    "mpesa_sync.cli.keys",
    "mpesa_sync.cli.staff",
    "mpesa_sync.cli.alerts",
)
"""Modules with a `register(app)`, in the order of the help: a new command group is one more line here."""

_HELP: Final = "Keep a venue's M-Pesa switch and what its customers are offered one and the same fact."
_EPILOG: Final = (
    examples(
        ("mpesa-sync check", "Which bars have drifted? Reads only."),
        ("mpesa-sync explain mama-njeri", "Why is M-Pesa offered at this bar, or not?"),
        ("mpesa-sync db status", "Which database is this, and does it fit?"),
    )
    + "\n\n\b\nThe database: --database-url, else MPESA_SYNC_DATABASE_URL, else the embedded\n"
    "server in ./.mpesa-sync, where there is one.\n\n\b\n"
    "Exit codes: 0 in sync or done, 1 error, 2 drift, 3 finished with quarantined\n"
    "records, 4 another run owns it, 5 verification failed, 6 a limit stopped it,\n"
    "64 wrong usage or settings, 130 interrupted."
)


def run() -> NoReturn:
    """Run the command line of this process and end it with the right exit code."""
    # A stream that was closed before the start is None: read nothing there, write nowhere.
    sys.stdin = sys.stdin or Path(os.devnull).open()  # noqa: SIM115 - for the life of the process
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets "?", not a traceback.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # both are TextIOWrapper in a process
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command line, print what it has to say, and return its exit code."""
    invocation = Invocation()
    try:
        answer: Any = typer.main.get_command(build()).main(
            arguments, prog_name=PROGRAM, standalone_mode=False, obj=invocation
        )
    except typer.TyperException as exc:
        _usage(exc, invocation)
        return ExitCode.USAGE
    except MpesaSyncError as exc:
        _expected(exc, invocation)
        return of_error(exc)
    except output.ResultLost as exc:
        output.note(f"Error: {exc}", "red")
        return ExitCode.ERROR
    except (KeyboardInterrupt, typer.Abort):
        answer = ExitCode.INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - the last resort: a person gets words, not a traceback
        _unexpected(exc, invocation)
        return ExitCode.ERROR
    if answer == ExitCode.INTERRUPTED:
        output.note("Interrupted.")
    return answer if isinstance(answer, int) else ExitCode.OK


def build() -> typer.Typer:
    """Return the app with every command registered."""
    app = typer.Typer(
        name=PROGRAM,
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for module in COMMANDS:
        importlib.import_module(module).register(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        output.result(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


def _options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error came from, secrets hidden.", show_default=False)
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_show_version, is_eager=True, show_default=False
        ),
    ] = False,
) -> None:
    context.obj.debug = debug


def _usage(exc: typer.TyperException, invocation: Invocation) -> None:
    context: Any = getattr(exc, "ctx", None)
    message = exc.format_message()
    if type(exc).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(message + "\n")
        return
    output.note(f"Error: {output.without_secrets(message, invocation.secrets)}", "red")
    if context is not None:
        output.note(f"Try '{context.command_path} --help'.")


def _expected(error: MpesaSyncError, invocation: Invocation) -> None:
    if isinstance(error, ConfigurationError) and len(error.faults) > 1:
        output.note("Error: these settings are wrong:", "red")
        for fault in error.faults:
            output.note(f"  {fault}")
    else:
        output.note(f"Error: {error.message}", "red")
    if invocation.debug:
        _traceback(error, invocation, sys.stderr)


def _unexpected(exc: Exception, invocation: Invocation) -> None:
    output.note(f"Error: something unexpected happened ({type(exc).__name__}).", "red")
    if invocation.debug:
        _traceback(exc, invocation, sys.stderr)
    else:
        output.note(f"Repeat it as '{PROGRAM} --debug …' to see where, and please report it.")


def _traceback(exc: BaseException, invocation: Invocation, stream: TextIO) -> None:
    """Print where an error came from: files and lines, never the values of local variables."""
    stream.write(output.without_secrets("".join(traceback.format_exception(exc)), invocation.secrets))
    stream.flush()
