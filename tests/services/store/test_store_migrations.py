"""A database comes to the code's version once, whoever starts when, or says why it cannot."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from engine.errors import FailedPrecondition
from services.local.postgres import Postgres
from services.store.migrate import Migration, migrate, shipped
from tests.services.store.stored import Database, create_database

_OPEN = """
import asyncio, sys
from services.store.store import Store
async def main():
    store = await Store.open(sys.argv[1])
    await store.close()
asyncio.run(main())
"""


@pytest.fixture
def database(server: Postgres) -> Database:
    """Of no version."""
    return create_database(server.admin_url, server.url)


def test_four_processes_may_start_at_once(database: Database) -> None:
    starts = [
        subprocess.Popen([sys.executable, "-c", _OPEN, database.url], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for start in starts:
        _, errors = start.communicate(timeout=60)
        assert start.returncode == 0, errors.decode()
    with psycopg.connect(database.url) as connection:
        rows = connection.execute("SELECT version, checksum FROM schema_migrations ORDER BY 1")
        assert rows.fetchall() == [(m.version, m.checksum) for m in shipped()]


@pytest.mark.asyncio
async def test_only_what_is_new_is_applied(database: Database) -> None:
    more = Migration(len(shipped()) + 1, "more", "CREATE TABLE more (x int)")
    async with await psycopg.AsyncConnection.connect(database.url) as connection:
        assert await migrate(connection) == [m.version for m in shipped()]
        assert await migrate(connection) == []
        assert await migrate(connection, [*shipped(), more]) == [more.version]
        with pytest.raises(FailedPrecondition, match="newer") as caught:
            await migrate(connection)
        assert caught.value.metadata["database_version"] == str(more.version)


@pytest.mark.asyncio
async def test_a_changed_migration_is_refused(database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.url) as connection:
        await migrate(connection, [Migration(1, "first", "SELECT 1")])
        with pytest.raises(FailedPrecondition, match="other content"):
            await migrate(connection)


@pytest.mark.asyncio
async def test_a_migration_that_fails_leaves_nothing(database: Database) -> None:
    broken = [
        Migration(1, "good", "CREATE TABLE good (x int)"),
        Migration(2, "bad", "CREATE TABLE bad (x nothing)"),
    ]
    async with await psycopg.AsyncConnection.connect(database.url) as connection:
        with pytest.raises(psycopg.Error):
            await migrate(connection, broken)
        cursor = await connection.execute("SELECT to_regclass('good')")
        assert await cursor.fetchone() == (None,)
