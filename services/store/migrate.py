"""Numbered SQL, applied once, in order, by whoever starts first.

All pending migrations run in one transaction under an advisory lock, so a process that dies in the
middle leaves nothing behind, and others that start at the same time wait and find them applied.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import psycopg

from engine.errors import FailedPrecondition

_LOCK = 0x7261676D657368  # "ragmesh"
_LOCK_TIMEOUT_MS = 60_000
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of migrations/."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped() -> tuple[Migration, ...]:
    """The migrations of this code, by version, which starts at 1 and leaves no gap."""
    found = []
    for file in resources.files("services.store").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise RuntimeError("the files in services/store/migrations are not numbered 0001, 0002, …")
    return tuple(found)


async def migrate(
    connection: psycopg.AsyncConnection[tuple[object, ...]],
    migrations: Sequence[Migration] | None = None,
) -> list[int]:
    """Bring the database to this code's version; the versions applied now.

    Raises FailedPrecondition where the database is newer than the code, or an applied migration
    is not the one that this code has.
    """
    wanted = shipped() if migrations is None else migrations
    async with connection.transaction():
        # bounded by us, not by a shorter statement_timeout of the role
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute(
            "SELECT set_config('lock_timeout', %s, true)", (str(_LOCK_TIMEOUT_MS),)
        )
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, "
            "apply_time timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await connection.execute("SELECT version, checksum FROM schema_migrations")
        applied = {
            int(str(version)): str(checksum) for version, checksum in await cursor.fetchall()
        }
        _check(applied, wanted)
        pending = [migration for migration in wanted if migration.version not in applied]
        for migration in pending:
            await connection.execute(migration.sql.encode())
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                (migration.version, migration.name, migration.checksum),
            )
    return [migration.version for migration in pending]


def _check(applied: dict[int, str], wanted: Sequence[Migration]) -> None:
    newest = max(applied, default=0)
    if newest > len(wanted):
        raise FailedPrecondition(
            f"the database has version {newest} and this ragmesh knows versions up to "
            f"{len(wanted)}; start the ragmesh that made it, or a newer one",
            metadata={"database_version": newest, "code_version": len(wanted)},
        )
    for migration in wanted:
        checksum = applied.get(migration.version, migration.checksum)
        if checksum != migration.checksum:
            raise FailedPrecondition(
                f"migration {migration.version} ({migration.name}) was applied with other content "
                "than this ragmesh has; start the ragmesh that made the database",
                metadata={"version": migration.version, "checksum": checksum},
            )
