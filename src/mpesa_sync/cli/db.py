"""`db`: make or attach, inspect, remove what is ours."""

from __future__ import annotations

from typing import Annotated

import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import guard, output, status
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import DatabaseUrl, examples, group, names
from mpesa_sync.cli.prompt import YES, agreed
from mpesa_sync.cli.session import on_database
from mpesa_sync.db import identity, installation, migrations, shape
from mpesa_sync.db.identity import Server
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.migrations import SchemaState
from mpesa_sync.db.shape import Shape
from mpesa_sync.errors import SchemaError
from mpesa_sync.sync import guards

_CONSEQUENCE = "This removes the schema mpesa_sync with all of its history, alerts and journals. It cannot be undone."


def register(app: typer.Typer) -> None:
    """Add `db` to the app."""
    db = group("Make or attach the database, inspect it, remove what is ours.")
    db.command(
        "init",
        epilog=examples(
            ("mpesa-sync db init", "Attach to a platform's database: only the schema mpesa_sync is added."),
            ("mpesa-sync db init --create-platform-tables", "Make a database of your own, in an empty one."),
        ),
    )(init)
    db.command(
        "status",
        epilog=examples(
            ("mpesa-sync db status", "Which database, what is missing in it, and what may this role do?"),
            ("mpesa-sync db status --json", "The same for a program."),
        ),
    )(status.status)
    db.command(
        "uninstall",
        epilog=examples(
            ("mpesa-sync db uninstall", "Ask, then remove the schema mpesa_sync with all that it holds."),
            ("mpesa-sync db uninstall --yes", "The same without asking, for scripts."),
        ),
    )(uninstall)
    app.add_typer(db, name="db")


def init(
    context: typer.Context,
    create_platform_tables: Annotated[
        bool,
        typer.Option(
            "--create-platform-tables",
            help="Where the database has none of them: make bars, mpesa_credentials and the rest first.",
            show_default=False,
        ),
    ] = False,
    database_url: DatabaseUrl = None,
) -> int:
    """Install the schema mpesa_sync, or bring it up to date. Can be repeated.

    Where bars and mpesa_credentials are there, it attaches to them and leaves the schema public as it is.
    Where they are not, nothing is done unless --create-platform-tables is given.
    """

    async def work(opened: Opened) -> ExitCode:
        async with opened.database.reading() as connection:
            server = await identity.server(connection)
            found = await shape.inspect(connection)
            before = await migrations.state(connection)
        _require_supported(server)
        # The embedded server is nobody's but ours: an empty one is there to be filled.
        make = _must_create(found, asked=create_platform_tables or opened.place.is_embedded)
        applied = await migrations.migrate(
            opened.database,
            mode=Mode.GREENFIELD if make else Mode.ATTACHED,
            create_platform_tables=make,
        )
        guarded = await guards.install_with(opened.database, applied)
        async with opened.database.reading() as connection:
            mode = await installation.mode(connection)
            after = await migrations.state(connection)
        if not after.is_current or mode is None:
            raise SchemaError("The schema mpesa_sync is not there after its installation. Run 'mpesa-sync db status'.")
        _print_installed(before, after, mode, made=make, changed=bool(applied))
        if guarded is not None:
            return guard.report_installed(guarded)
        return ExitCode.OK

    return on_database(context, database_url, work)


def _require_supported(server: Server) -> None:
    supported = identity.SUPPORTED
    if server.major < supported.start:
        raise SchemaError(
            f"PostgreSQL {server.version} is too old: {supported.start} to {supported[-1]} are supported. "
            "Nothing was changed."
        )


def _must_create(found: Shape, *, asked: bool) -> bool:
    """Return whether the platform's tables are to be made; refuse where that is not clear (spec 6).

    Raises:
        SchemaError: one of the two tables is missing, or both are and nobody asked for them, or columns are
            missing or odd. Names each.
    """
    there = [table for table in shape.REQUIRED if found.has(table)]
    absent = [table for table in shape.REQUIRED if not found.has(table)]
    if not there:
        if not asked:
            raise SchemaError(
                f"This database has no tables {names(absent)}: is it the right one? Nothing was changed. For a "
                "database of your own repeat this with --create-platform-tables."
            )
        others = [table for table in shape.OPTIONAL_TABLES if found.has(table)]
        if others:
            raise SchemaError(
                f"This database has {names(others)} already, without {names(absent)}. Nothing was changed. "
                "Use an empty database."
            )
        return True
    if absent:
        raise SchemaError(
            f"This database has {names(there)}, and {names(absent)} is missing. Nothing was changed. Both are "
            "needed to attach; is it the right database?"
        )
    if faults := found.faults():
        raise SchemaError(f"The platform's tables do not fit: {'; '.join(faults)}. Nothing was changed.")
    return False


def _print_installed(before: SchemaState, after: SchemaState, mode: Mode, *, made: bool, changed: bool) -> None:
    if made:
        output.result("Created the platform's tables in the schema public.")
    if not changed:
        output.result(f"The schema mpesa_sync is up to date, version {after.applied} ({mode}).", "green")
    elif before.applied is None:
        output.result(f"Installed the schema mpesa_sync, version {after.applied} ({mode}).", "green")
    else:
        output.result(f"Brought the schema mpesa_sync from version {before.applied} to {after.applied}.", "green")
    if mode is Mode.ATTACHED and not made:
        output.result("Nothing in the schema public was changed.")


def uninstall(
    context: typer.Context,
    yes: Annotated[bool, typer.Option(YES, help="Do not ask.", show_default=False)] = False,
    database_url: DatabaseUrl = None,
) -> int:
    """Remove the schema mpesa_sync: history, alerts, journals. The platform's own tables stay as they are."""

    async def work(opened: Opened) -> ExitCode:
        async with opened.database.reading() as connection:
            there = await identity.may_read_ours(connection) is not None
        if not there:
            output.result("There is no schema mpesa_sync in this database: nothing to remove.")
            return ExitCode.OK
        if not yes and not await agreed(_CONSEQUENCE, "Remove it from this database?"):
            output.note("Nothing was removed.")
            return ExitCode.ERROR
        await migrations.uninstall(opened.database)
        async with opened.database.reading() as connection:
            left = await identity.may_read_ours(connection) is not None
        if left:
            raise SchemaError("The schema mpesa_sync is still there: another program made it again at once.")
        output.result("Removed the schema mpesa_sync. The schema public was not touched.", "green")
        return ExitCode.OK

    return on_database(context, database_url, work)
