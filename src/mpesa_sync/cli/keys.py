"""`keys`: encryption keys. Nothing here keeps one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import examples, group
from mpesa_sync.crypto import keyfile
from mpesa_sync.crypto.keyring import generate_key


def register(app: typer.Typer) -> None:
    """Add `keys` to the app."""
    keys = group("Encryption keys of the stored M-Pesa secrets.")
    epilog = examples(
        ("mpesa-sync keys generate", "Print a new key, once."),
        ("mpesa-sync keys generate --out kms.key", "Write it to a file that only you may read."),
    )
    keys.command("generate", epilog=epilog)(generate)
    app.add_typer(keys, name="keys")


def generate(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write to this new file (0600); never overwrites.", show_default=False
        ),
    ] = None,
) -> int:
    """Make a new random key of 32 characters for MPESA_KMS_KEY.

    It is stored nowhere else. What was sealed under a key that is lost cannot be opened again.
    """
    key = generate_key()
    if out is None:
        output.result(key.reveal())
        output.note("Set it as MPESA_KMS_KEY and keep a copy in a safe place: it is not stored here.")
        return ExitCode.OK
    try:
        keyfile.create(out, key)
    except FileExistsError:
        output.note(f"Error: {out} is there already, and a key is never overwritten. Name another file.", "red")
        return ExitCode.ERROR
    except OSError as exc:
        output.note(f"Error: {out} cannot be written: {exc.strerror}.", "red")
        return ExitCode.ERROR
    output.result(f"A new key is in {out}; only you may read it.")
    return ExitCode.OK
