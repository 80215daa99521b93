"""`staff`: local accounts, the bars they belong to, and bearer tokens for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from mpesa_sync import bootstrap
from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output, passwords, staff_list
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import AsJson, DatabaseUrl, examples, group
from mpesa_sync.cli.passwords import ASK, GENERATE, STDIN
from mpesa_sync.cli.prompt import YES, agreed
from mpesa_sync.cli.session import bar_of, on_database, require_installed
from mpesa_sync.db.accounts import Account
from mpesa_sync.errors import BarNotFound, ConfigurationError, SyncRefused
from mpesa_sync.identity import accounts, token_key
from mpesa_sync.identity.people import Role
from mpesa_sync.identity.tokens import Tokens
from mpesa_sync.secret import Secret
from mpesa_sync.settings import JWT_SECRET, Settings

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the account.", show_default=False)]
FromStdin = Annotated[
    bool, typer.Option(STDIN, help="Read the password from the first line of stdin.", show_default=False)
]
Generated = Annotated[bool, typer.Option(GENERATE, help="Make up a password and print it, once.", show_default=False)]
Asked = Annotated[
    bool, typer.Option(ASK, help="Ask for a new password for an account that is there.", show_default=False)
]


class Added(msgspec.Struct, frozen=True, omit_defaults=True):
    """The object of `staff add --json`. `roles`, by the id of the bar, are those of the bars that were named."""

    id: UUID
    name: str
    operator: bool
    created: bool
    roles: Mapping[UUID, str]
    password_changed: bool = False
    password: str | None = None


def register(app: typer.Typer) -> None:
    """Add `staff` to the app."""
    staff = group("Accounts of venue staff and operators, and bearer tokens for them.")
    staff.command(
        "add",
        epilog=examples(
            ("mpesa-sync staff add asha --bar mama-njeri --role owner", "Make an account; asks for its password."),
            ("mpesa-sync staff add asha --bar club-99", "Let an account that is there see another bar."),
            (f"mpesa-sync staff add juma --operator {GENERATE}", "An operator; prints a new password."),
            (f"mpesa-sync staff add asha {ASK}", "A forgotten password: asks for a new one."),
        ),
    )(add)
    staff.command("list", epilog=examples(("mpesa-sync staff list", "Who is there, and where?")))(staff_list.list_)
    staff.command(
        "remove",
        epilog=examples(
            ("mpesa-sync staff remove asha", "Ask, then remove the account."),
            ("mpesa-sync staff remove asha --bar club-99 --yes", "Take one bar away from it, without asking."),
        ),
    )(remove)
    staff.command(
        "token", epilog=examples(("mpesa-sync staff token asha --ttl-minutes 15", "A token for calls of the API."))
    )(token)
    app.add_typer(staff, name="staff")


def add(
    context: typer.Context,
    name: Name,
    bar: Annotated[
        list[str] | None,
        typer.Option(
            "--bar", metavar="BAR", help="A bar it belongs to, by id or slug; repeatable.", show_default=False
        ),
    ] = None,
    role: Annotated[
        Role | None,
        typer.Option("--role", help="What it is in these bars; staff may look only.", show_default="staff"),
    ] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="An operator, who belongs to no bar.", show_default=False)
    ] = False,
    password_stdin: FromStdin = False,
    generate_password: Generated = False,
    new_password: Asked = False,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> int:
    """Make an account; or let one that is there into more bars, or give it a new password.

    Asks for a new account's password. An account that is there gets a new one where one of the three options of
    passwords is given, and its sessions end. A role that it has in a bar is changed only where --role is given.
    """
    _check_usage(name, operator=operator, bar=bar, role=role)
    passwords.check_options(password_stdin, generate_password, new_password)
    source = {"from_stdin": password_stdin, "generated": generate_password}
    chosen = password_stdin or generate_password or new_password

    async def work(opened: Opened) -> ExitCode:
        account, bars = await _found(opened, name, bar or [])
        roles = dict.fromkeys(bars, role or Role.STAFF)
        if is_new := account is None:
            if new_password:
                raise SyncRefused(f"There is no account '{name}'. {ASK} is for one that is there; nothing was made.")
        else:
            _refuse_to_add_again(account, operator=operator, bars=bars, password=chosen)
        password: Secret | None = None
        if is_new or chosen:
            passwords.check_source(**source)
            password = await passwords.new(name, **source)
        account, roles = await _written(opened, account or name, password, roles, operator=operator, role=role)
        shown = password.reveal() if password and generate_password else None
        is_renewed = password is not None and not is_new
        if as_json:
            words = {bar_id: str(one) for bar_id, one in roles.items()}
            output.json_result(Added(account.id, account.name, account.is_operator, is_new, words, is_renewed, shown))
        else:
            named = dict(zip(bar or [], map(roles.__getitem__, bars), strict=True))
            _print_added(account, named, shown, is_new=is_new, is_renewed=is_renewed)
        return ExitCode.OK

    return on_database(context, database_url, work)


def _check_usage(name: str, *, operator: bool, bar: list[str] | None, role: Role | None) -> None:
    accounts.checked_name(name)
    if operator and (bar or role):
        raise ConfigurationError(["--operator excludes --bar and --role: an operator belongs to no bar"])
    if role and not bar:
        raise ConfigurationError(["--role is the role in a bar: give --bar too"])


async def _written(
    opened: Opened,
    whom: Account | str,
    password: Secret | None,
    roles: dict[UUID, Role],
    *,
    operator: bool,
    role: Role | None,
) -> tuple[Account, dict[UUID, Role]]:
    """Make an account of a name, or change the one that is there; return it with its roles in these bars."""
    if isinstance(whom, str):
        assert password is not None
        return await accounts.add(opened.database, whom, password, is_operator=operator, memberships=roles), roles
    if roles:
        roles = dict(await accounts.grant(opened.database, whom, roles, replace=role is not None))
    if password is not None:  # last: where anything fails before, the password that people know still counts
        await accounts.set_password(opened.database, whom, password)
    return whom, roles


async def _found(opened: Opened, name: str, texts: list[str]) -> tuple[Account | None, list[UUID]]:
    """Return the account of a name and the bars that are named; refuse where one of these is not there."""
    async with opened.database.reading() as connection:
        await require_installed(connection)
        bars = [await bar_of(connection, text) for text in texts]
    return await accounts.find(opened.database, name), bars


def _refuse_to_add_again(account: Account, *, operator: bool, bars: list[UUID], password: bool) -> None:
    """Refuse what cannot be done to an account that is there, and what leaves nothing to do."""
    if operator or (account.is_operator and bars) or not (bars or password):
        kind = "an operator's account" if account.is_operator else "an account"
        more = "" if operator or account.is_operator else " --bar lets it into one more,"
        hint = f"{more} {ASK} gives it a new password." if not operator else ""
        raise SyncRefused(f"There is {kind} '{account.name}' already. Nothing was changed.{hint}")


def _print_added(
    account: Account, roles: Mapping[str, Role], password: str | None, *, is_new: bool, is_renewed: bool
) -> None:
    """Print what was done; a password that was made up alone on stdout, so that it can be piped."""
    say = output.result if password is None else output.note
    if is_renewed:
        say(f"{account.name} was there already and has a new password. Its sessions have ended.", "green")
    if is_new:
        say(f"Added {account.name}{', an operator' if account.is_operator else ''}.", "green")
        if not (roles or account.is_operator):
            say(f"It belongs to no bar yet: 'mpesa-sync staff add {account.name} --bar BAR' lets it into one.")
    for text, role in roles.items():
        say(f"{account.name} is {role} of {text}.", "green")
    if password is not None:
        output.result(password)
        output.note("This is its password. It is not shown again.")


def remove(
    context: typer.Context,
    name: Name,
    bar: Annotated[
        str | None,
        typer.Option("--bar", metavar="BAR", help="Only take this bar away, by id or slug.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option(YES, help="Do not ask.", show_default=False)] = False,
    database_url: DatabaseUrl = None,
) -> int:
    """Remove an account, or take one bar away from it. Its sessions end at once."""

    async def work(opened: Opened) -> ExitCode:
        account = await _account(opened, name)
        bar_id = None if bar is None else await _bar_or_its_id(opened, bar)
        what = f"the account {account.name}" if bar is None else f"{bar} from {account.name}"
        if not yes and not await agreed(f"This removes {what} and ends its sessions.", "Remove it?"):
            output.note("Nothing was removed.")
            return ExitCode.ERROR
        if bar_id is None:
            there = await accounts.remove(opened.database, account)
        else:
            there = await accounts.revoke(opened.database, account, bar_id)
        if not there:
            gone = (
                f"There is no account '{name}' any more." if bar is None else f"{account.name} is no member of {bar}."
            )
            raise SyncRefused(gone)
        output.result(f"Removed {what}. Its sessions have ended.", "green")
        return ExitCode.OK

    return on_database(context, database_url, work)


async def _account(opened: Opened, name: str) -> Account:
    async with opened.database.reading() as connection:
        await require_installed(connection)
    account = await accounts.find(opened.database, name)
    if account is None:
        raise SyncRefused(f"There is no account '{name}'. 'mpesa-sync staff list' names those that are there.")
    return account


async def _bar_or_its_id(opened: Opened, text: str) -> UUID:
    """Return the id of a bar, also of one that is gone where its id was given."""
    async with opened.database.reading() as connection:
        try:
            return await bar_of(connection, text)
        except BarNotFound:
            try:
                return UUID(text)
            except ValueError:
                pass
            raise


def token(
    context: typer.Context,
    name: Name,
    ttl_minutes: Annotated[
        int, typer.Option("--ttl-minutes", min=1, max=1440, metavar="N", help="Minutes until it ends, at most a day.")
    ] = 60,
    database_url: DatabaseUrl = None,
) -> int:
    """Print a bearer token that acts as an account until it ends. It cannot be taken back.

    Signed with MPESA_SYNC_JWT_SECRET; for the embedded server also with the key beside its data.
    """

    async def work(opened: Opened) -> ExitCode:
        tokens = _tokens(opened, context.obj.secrets)
        account = await _account(opened, name)
        output.result(tokens.mint(account.id, ttl_minutes * 60).reveal())
        output.note(f"Whoever has this acts as {account.name} for {output.count(ttl_minutes, 'minute')}.")
        return ExitCode.OK

    return on_database(context, database_url, work)


def _tokens(opened: Opened, hidden: list[Any]) -> Tokens:
    settings = Settings.load()
    secret = settings.jwt_secret
    if secret is None and opened.place.is_embedded:
        secret = token_key.create(bootstrap.HOME)
    if secret is None:
        raise ConfigurationError(
            [f"{JWT_SECRET} is not set: tokens are signed with the secret that the server reads them with"]
        )
    hidden.append(secret)
    return Tokens(secret, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
