"""Fixtures: the server of this run, and a fresh database for every test."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from mpesa_sync.db import embedded
from mpesa_sync.db.pool import Database, connect
from tests.support import databases, memory, web
from tests.support.channels import Endpoints, endpoints
from tests.support.drop_in import Venue, venue_with_site
from tests.support.faults import QUICK
from tests.support.premises import Premises, premises
from tests.support.venues import KEY

settings.register_profile(
    "real-database",
    deadline=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("real-database")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        choices=["wheel", "system"],
        default="wheel",
        help="whose PostgreSQL the tests run on: the wheel's or the machine's own",
    )


@pytest.hookimpl(tryfirst=True)  # before pytest makes up its mind about the folder
def pytest_configure(config: pytest.Config) -> None:
    if config.option.basetemp is None and (folder := memory.folder()) is not None:
        config.option.basetemp = str(folder / "run")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    """The PostgreSQL server of this run, shared by its worker processes."""
    base = tmp_path_factory.getbasetemp()
    home: Path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "postgres"
    distribution = request.config.getoption("--postgres")
    with embedded.start(
        home,
        distribution=distribution,
        extra_settings={"fsync": "off", "full_page_writes": "off", "max_connections": "400"},
    ) as running:
        asyncio.run(databases.quick_sign_in(running.url))
        yield running


@pytest.fixture(scope="session")
def server_url(server: embedded.Server) -> str:
    """URL of the server's maintenance database, with its password."""
    return server.url


@pytest.fixture(scope="session")
def greenfield_template(server_url: str) -> str:
    """Name of a database with the platform's tables and the schema `mpesa_sync`."""
    return asyncio.run(databases.make_template(server_url))


@pytest.fixture(scope="session")
def platform_template(server_url: str) -> str:
    """Name of a database with the platform's tables alone: nothing of ours is installed."""
    return asyncio.run(databases.make_template(server_url, platform_only=True))


@pytest.fixture(scope="session")
def unnoticed_template(server_url: str) -> str:
    """Name of a database like the greenfield one without its notice triggers: other writers are on their own."""
    return asyncio.run(databases.make_template(server_url, notices=False))


@pytest.fixture(scope="session")
def guarded_template(server_url: str) -> str:
    """Name of a database like the greenfield one with its guards, as `db init` makes it."""
    return asyncio.run(databases.make_template(server_url, guarded=True))


@pytest.fixture(scope="session")
def clerk(server_url: str) -> Iterator[databases.Clerk]:
    """Who makes the databases of the tests and drops them again."""
    clerk = databases.Clerk(server_url)
    yield clerk
    clerk.close()


@pytest.fixture
def unnoticed_url(clerk: databases.Clerk, unnoticed_template: str) -> Iterator[str]:
    """A fresh database without notice triggers."""
    yield from _cloned(clerk, unnoticed_template)


@pytest.fixture
def guarded_url(clerk: databases.Clerk, guarded_template: str) -> Iterator[str]:
    """A fresh database with guards in mode heal: no committed state is drifted."""
    yield from _cloned(clerk, guarded_template)


@pytest.fixture
async def guarded_db(guarded_url: str) -> AsyncIterator[Database]:
    """`mpesa_sync.connect` to a fresh guarded database, with the key of this test run."""
    async with connect(guarded_url, kms_keys=[KEY]) as database:
        yield database


@pytest.fixture
async def guarded_sql(guarded_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A plain connection to the guarded database: another program."""
    async with databases.plain(guarded_url) as connection:
        yield connection


@pytest.fixture
def database_url(clerk: databases.Clerk, greenfield_template: str) -> Iterator[str]:
    """A fresh greenfield database."""
    yield from _cloned(clerk, greenfield_template)


@pytest.fixture
def platform_url(clerk: databases.Clerk, platform_template: str) -> Iterator[str]:
    """A fresh database of the platform, not attached."""
    yield from _cloned(clerk, platform_template)


@pytest.fixture
def empty_database_url(clerk: databases.Clerk) -> Iterator[str]:
    """A fresh database without any table."""
    yield from _cloned(clerk, "template0")


def _cloned(clerk: databases.Clerk, template: str) -> Iterator[str]:
    url = clerk.make(template)
    yield url
    clerk.drop(url)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """`mpesa_sync.connect` to a fresh greenfield database, with the key of this test run."""
    async with connect(database_url, kms_keys=[KEY]) as database:
        yield database


@pytest.fixture
async def spooling(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """A database whose spool is a folder of the test."""
    async with connect(database_url, kms_keys=[KEY], retry=QUICK, alert_spool=tmp_path) as database:
        yield database


@pytest.fixture
async def there() -> AsyncIterator[Endpoints]:
    """A server of channels."""
    async with endpoints() as found:
        yield found


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A plain connection to the same database: another program, and the observer."""
    async with databases.plain(database_url) as connection:
        yield connection


@pytest.fixture
async def site(db: Database, database_url: str) -> AsyncIterator[web.Site]:
    """The web application over the fresh database, on a real socket."""
    async with web.running(db, database_url) as serving:
        yield serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_premises(
    tmp_path_factory: pytest.TempPathFactory, server_url: str, greenfield_template: str
) -> AsyncIterator[Premises]:
    """A server and a browser, one for all tests of a module."""
    async with premises(tmp_path_factory.mktemp("premises"), server_url, greenfield_template) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def place(shared_premises: Premises) -> AsyncIterator[Premises]:
    """The server; whatever goes wrong in a window fails the test."""
    async with shared_premises.visited():
        yield shared_premises


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_venue(
    tmp_path_factory: pytest.TempPathFactory, server_url: str, greenfield_template: str
) -> AsyncIterator[Venue]:
    """A venue's own site that our server lists, one for all tests of a module."""
    async with venue_with_site(tmp_path_factory.mktemp("drop-in"), server_url, greenfield_template) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def venue(shared_venue: Venue) -> AsyncIterator[Venue]:
    """That site; whatever goes wrong on one of its pages fails the test."""
    async with shared_venue.visited():
        yield shared_venue
