"""Who belongs to which bar: ours and the platform's memberships, read anew for every question (issue 3)."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from mpesa_sync.db import session, transaction
from mpesa_sync.db.accounts import Account
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import BarNotFound, InvalidInput, NotAllowed, SyncRefused
from mpesa_sync.identity import accounts, membership, sessions
from mpesa_sync.identity.people import Membership, Person, Role, Via
from tests.support.people import PASSWORD, add_account, person, quick_hashing
from tests.support.venues import add_bar

USER_BAR = "insert into public.user_bars (user_id, bar_id, role) values ($1, $2, $3)"
ROLES = [None, "owner", "manager", "staff"]
STRENGTH = {"owner": 3, "manager": 2, "staff": 1, None: 0}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_hashing(monkeypatch)


async def required(db: Database, who: Person, bar: UUID, *, to_write: bool) -> str:
    """The answer of `require`, in a transaction that writes."""

    async def work(connection: Any) -> Role:
        return await membership.require(connection, who, bar, to_write=to_write)

    try:
        return str(await transaction.once(db, session.WRITE, work))
    except (BarNotFound, NotAllowed) as exc:
        return f"{exc.http_status} {exc.message}"


@pytest.mark.parametrize("theirs", ROLES)
@pytest.mark.parametrize("ours", ROLES)
async def test_the_strongest_role_of_both_counts(ours: str | None, theirs: str | None, db: Database, sql: Any) -> None:
    """Spec 7: membership is the union; owner and manager write, staff read, nobody else sees the bar."""
    bar = await add_bar(sql)
    account = await accounts.add(db, "Asha", PASSWORD, memberships={bar: Role(ours)} if ours else {})
    if theirs:
        await sql.execute(USER_BAR, account.id, bar, theirs)
    role = max(ours, theirs, key=lambda one: STRENGTH[one])
    async with db.reading() as connection:
        assert await membership.role_of(connection, person(account), bar) == role
        assert await membership.bars_of(connection, person(account)) == ([Membership(bar, Role(role))] if role else [])
    reading, writing = [await required(db, person(account), bar, to_write=to_write) for to_write in (False, True)]
    assert reading == (role or "404 Bar not found")
    if role == "staff":
        assert writing.startswith("403 Your role")
    else:
        assert writing == reading


async def test_membership_of_one_bar_is_none_of_another(db: Database, sql: Any) -> None:
    """Issue 3: not membership of any bar: a foreign bar looks like an absent one, also to another bar's owner."""
    mine, foreign = await add_bar(sql), await add_bar(sql)
    account = await add_account(db, owner=mine)
    await sql.execute(USER_BAR, uuid4(), foreign, "owner")
    answers = [await required(db, person(account), bar, to_write=True) for bar in (mine, foreign, uuid4())]
    assert answers == ["owner", "404 Bar not found", "404 Bar not found"]


async def test_a_membership_taken_away_counts_at_once(db: Database, sql: Any) -> None:
    """Issue 3: read again inside the writing transaction, not remembered from the request's beginning."""
    ours, theirs = await add_bar(sql), await add_bar(sql)
    account = await add_account(db, owner=ours)
    await sql.execute(USER_BAR, account.id, theirs, "owner")

    async def work(connection: Any) -> None:
        for bar in (ours, theirs):
            assert await membership.require(connection, person(account), bar, to_write=True) is Role.OWNER
        await sql.execute("delete from mpesa_sync.memberships")
        await sql.execute("update public.user_bars set role = 'staff'")
        with pytest.raises(BarNotFound):
            await membership.require(connection, person(account), ours, to_write=True)
        with pytest.raises(NotAllowed):
            await membership.require(connection, person(account), theirs, to_write=True)

    await transaction.once(db, session.WRITE, work)


async def test_a_former_member_and_a_removed_account_belong_nowhere(db: Database, sql: Any) -> None:
    """Issue 3: also where somebody still holds the person of an old session or token."""
    bar, other = await add_bar(sql), await add_bar(sql)
    first = await add_account(db, owner=bar)
    second = await accounts.add(db, "Juma", PASSWORD, memberships={bar: Role.STAFF, other: Role.OWNER})
    assert await accounts.revoke(db, second, bar)
    assert not await accounts.revoke(db, second, bar)
    assert await accounts.remove(db, first)
    assert not await accounts.remove(db, first)
    assert await required(db, person(first), bar, to_write=False) == "404 Bar not found"
    assert await required(db, person(second), bar, to_write=False) == "404 Bar not found"
    assert await required(db, person(second), other, to_write=True) == "owner"
    assert await sql.fetchval("select count(*) from mpesa_sync.memberships") == 1


async def test_a_bar_that_is_gone_has_no_members(db: Database, sql: Any) -> None:
    """Spec 7: our memberships refer to no table of the platform, and may outlive the bar; then they do not count."""
    bar = await add_bar(sql)
    account = await add_account(db, owner=bar)
    await sql.execute("delete from public.bars")
    assert await required(db, person(account), bar, to_write=False) == "404 Bar not found"
    async with db.reading() as connection:
        assert await membership.bars_of(connection, person(account)) == []


async def test_a_platform_without_user_bars_has_our_memberships(db: Database, sql: Any) -> None:
    """existing-platform.md: the table is optional."""
    bar, foreign = await add_bar(sql), await add_bar(sql)
    account = await add_account(db, manager=bar)
    await sql.execute("drop table public.user_bars")
    async with db.reading() as connection:
        assert await membership.bars_of(connection, person(account)) == [Membership(bar, Role.MANAGER)]
    answers = [await required(db, person(account), one, to_write=True) for one in (bar, foreign)]
    assert answers == ["manager", "404 Bar not found"]


async def test_another_word_for_a_role_is_no_role(db: Database, sql: Any) -> None:
    """existing-platform.md: what a platform may add later gives nobody rights here."""
    bar = await add_bar(sql)
    account = await add_account(db)
    await sql.execute("alter table public.user_bars drop constraint user_bars_role_check")
    await sql.execute(USER_BAR, account.id, bar, "admin")
    assert await required(db, person(account), bar, to_write=False) == "404 Bar not found"


@pytest.mark.parametrize("via", list(Via))
async def test_an_operator_belongs_to_no_bar(via: Via, db: Database, sql: Any) -> None:
    """Issue 3: also where rows of either table say so."""
    bar = await add_bar(sql)
    account = await add_account(db, is_operator=True)
    await sql.execute(USER_BAR, account.id, bar, "owner")
    await sql.execute(
        "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, 'owner')", account.id, bar
    )
    operator = Person(account.id, account.name, True, via)
    assert await required(db, operator, bar, to_write=False) == "404 Bar not found"
    async with db.reading() as connection:
        assert await membership.role_of(connection, operator, bar) is None
        assert await membership.bars_of(connection, operator) == []


async def test_an_operator_is_given_no_bar(db: Database, sql: Any) -> None:
    """Issue 3: neither at the beginning nor later; nothing is written."""
    bar = await add_bar(sql)
    operator = await add_account(db, is_operator=True)
    with pytest.raises(SyncRefused):
        await add_account(db, "Juma", is_operator=True, owner=bar)
    with pytest.raises(SyncRefused):
        await accounts.grant(db, operator, {bar: Role.OWNER})
    assert await sql.fetchval("select count(*) from mpesa_sync.accounts") == 1
    assert await sql.fetchval("select count(*) from mpesa_sync.memberships") == 0


async def test_a_role_is_changed_or_kept_as_asked(db: Database, sql: Any) -> None:
    """Issue 3: `grant` says which role somebody has afterwards."""
    bar, other = await add_bar(sql), await add_bar(sql)
    account = await add_account(db, owner=bar)
    kept = await accounts.grant(db, account, {bar: Role.STAFF, other: Role.STAFF}, replace=False)
    assert kept == {bar: Role.OWNER, other: Role.STAFF}
    assert await accounts.grant(db, account, {bar: Role.STAFF}) == {bar: Role.STAFF}
    await accounts.remove(db, account)
    with pytest.raises(SyncRefused):
        await accounts.grant(db, account, {bar: Role.STAFF})


@pytest.mark.parametrize(
    "name", ["", "a", "x" * 65, "two words", "asha\n", "a\x00b", "аsha", "as\u200bha", "asha/x", "<b>"], ids=ascii
)
async def test_names_that_could_be_mistaken_are_refused(name: str, db: Database) -> None:
    """Issue 3: 2 to 64 ASCII letters, digits and . _ - @ +."""
    with pytest.raises(InvalidInput) as refused:
        await add_account(db, name)
    assert refused.value.field == "NAME"


@pytest.mark.parametrize("name", ["Al", "x" * 64, "asha.w@mama-njeri.co.ke", "till_2+night"])
async def test_other_names_are_kept_as_they_are(name: str, db: Database) -> None:
    """Issue 3: the name as it was written."""
    assert (await add_account(db, name)).name == name
    found = await accounts.find(db, name.upper())
    assert isinstance(found, Account)
    assert found.name == name


async def test_a_name_is_taken_in_whatever_case(db: Database) -> None:
    """Issue 3: no two people look the same in the history."""
    await add_account(db)
    with pytest.raises(SyncRefused, match="already"):
        await add_account(db, "ASHA")


async def test_accounts_show_no_hash(db: Database, sql: Any) -> None:
    """Spec K: the hash of a password is in no repr."""
    account = await add_account(db, owner=await add_bar(sql))
    stored = await sql.fetchval("select password_hash from mpesa_sync.accounts")
    begun = await sessions.create(db, account)
    shown = f"{account!r} {await accounts.listed(db)!r} {begun!r}"
    assert stored not in shown
    assert "argon2" not in shown
