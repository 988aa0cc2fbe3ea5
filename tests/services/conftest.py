"""One real PostgreSQL for the session, a database of its own for every test. It does not wait for
the disk: whoever tests what a machine that loses power keeps starts another."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from services.local.directory import hold
from services.local.postgres import Postgres, embedded_postgres
from services.local.process import launch_argv
from services.store.migrate import migrate
from services.store.store import Store
from tests.services.store.stored import Database, create_database


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory() as parent, hold(Path(parent) / "data") as held:
        postgres = embedded_postgres(held.directory)
        asyncio.run(postgres.prepare())
        process = subprocess.Popen(
            launch_argv(
                [*postgres.part().argv(), *("-c", "fsync=off", "-c", "full_page_writes=off")],
                run_as=postgres.run_as,
                death_signal=signal.SIGQUIT,
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(postgres, process)
            asyncio.run(postgres.provision())
            yield postgres
        finally:
            process.send_signal(signal.SIGQUIT)  # what it holds goes away: no checkpoint needed
            process.wait(20)


@pytest.fixture(scope="session")
def migrated(server: Postgres) -> Database:
    """A database of this version, which is copied. Nobody may be connected."""
    made = create_database(server.admin_url, server.url)
    asyncio.run(_migrate(made.url))
    return made


@pytest.fixture
def database(migrated: Database) -> Iterator[Database]:
    """Of this version, and empty."""
    made = migrated.backup()
    yield made
    made.drop()  # all together they would be a gigabyte


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    opened = await Store.open(database.url, connections_max=16)
    yield opened
    await opened.close()


async def _migrate(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await migrate(connection)


def _wait(postgres: Postgres, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        assert process.poll() is None, postgres.log_file.read_text()
        try:
            asyncio.run(postgres.ready())
            return
        except psycopg.OperationalError:
            time.sleep(0.02)
    raise AssertionError("PostgreSQL was not ready within 20 s")
