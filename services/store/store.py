"""The pool of connections, and transactions that belong to one tenant.

What is true:
- Every transaction names its tenant to row security before anything else runs in it. `*`, all
  tenants, is only for `Store.system` and `Store.snapshot`.
- A transaction that ends without an exception is committed; one in which a statement failed never
  is, even where the caller caught the error.
- No exception of psycopg leaves this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import pq, sql
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from engine.errors import FailedPrecondition, IndexUnavailable, RagmeshError, StoreUnavailable
from services.store.failures import RETRY_AFTER_S, repeatable, translated
from services.store.migrate import migrate

T = TypeVar("T")
Row = tuple[Any, ...]
Connection = psycopg.AsyncConnection[Row]

EVERY_TENANT = "*"
STATEMENT_TIMEOUT_S = 30.0
LOCK_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 60.0
SNAPSHOT_IDLE_TIMEOUT_S = 600.0
"""Between two pages of a snapshot an index is built."""

RECONNECT_S = 0.5
"""How long the pool tries again by itself after a lost connection. It waits twice as long after
every failure, so that a long outage would go on as long again; a call that comes after this has
it connect at once."""

_PAUSE_S = 0.02
"""Before a second try: whoever waited for the row gets it first."""
# One message without parameters: half the work of a statement for each, on both sides.
_BEGIN = sql.SQL(
    "BEGIN ISOLATION LEVEL {mode}; SET LOCAL ragmesh.tenant = {tenant}; "
    "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; "
    "SET LOCAL idle_in_transaction_session_timeout = {idle}"
)


CLOSED_WAIT_S, CLOSED_PAUSE_S = 15.0, 0.02
"""How long a write waits for a log that is closed, and between two looks: longer than an exchange
that is tried again keeps it closed on a machine that is very busy."""


class Closed(IndexUnavailable):
    """The log of a collection takes no writes for a moment, because its migration is flipped."""

    def __init__(self, collection_id: str) -> None:
        super().__init__(
            f"collection {collection_id!r} takes no writes for a moment: another index takes over; "
            "try again",
            metadata={"collection": collection_id},
            retry_after_s=1.0,
        )


class Tx:
    """An open transaction of `tenant`. Not for use by two tasks at once."""

    __slots__ = ("connection", "tenant")

    def __init__(self, connection: Connection, tenant: str) -> None:
        self.connection = connection
        self.tenant = tenant

    async def run(self, query: str, params: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Execute; the number of rows touched."""
        return (await self.connection.execute(query.encode(), params)).rowcount

    async def rows(self, query: str, params: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """Execute; all rows."""
        cursor = await self.connection.execute(query.encode(), params, binary=True)
        return await cursor.fetchall()

    async def row(self, query: str, params: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """Execute; the first row, if there is one."""
        cursor = await self.connection.execute(query.encode(), params, binary=True)
        return await cursor.fetchone()

    async def all(
        self, kind: type[T], query: str, params: Sequence[Any] | dict[str, Any] = ()
    ) -> list[T]:
        """Execute; all rows as `kind`, whose fields the columns name."""
        async with self.connection.cursor(binary=True, row_factory=class_row(kind)) as cursor:
            await cursor.execute(query.encode(), params)
            return await cursor.fetchall()

    async def one(
        self, kind: type[T], query: str, params: Sequence[Any] | dict[str, Any] = ()
    ) -> T | None:
        """Execute; the first row as `kind`, if there is one."""
        async with self.connection.cursor(binary=True, row_factory=class_row(kind)) as cursor:
            await cursor.execute(query.encode(), params)
            return await cursor.fetchone()


class Store:
    """PostgreSQL, as the services see it. One per process and event loop; see `Store.open`."""

    def __init__(self, pool: AsyncConnectionPool[Connection], wait_s: float) -> None:
        self._pool = pool
        self._wait_s = wait_s

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        connections_max: int = 2 * (os.cpu_count() or 2) + 4,
        waiting_max: int = 256,
        wait_s: float = 3.0,
        migrations: bool = True,
    ) -> Store:
        """Connect, check the role, and migrate.

        `url` is a libpq URL; a socket directory goes in as `postgresql://user@/db?host=/dir`.
        `connections_max` bounds the connections, `waiting_max` the calls that wait for one,
        `wait_s` how long each waits. Raises StoreUnavailable, or FailedPrecondition where the role
        bypasses row security or the database does not fit this code.
        """
        with translated():
            async with await psycopg.AsyncConnection.connect(
                url, autocommit=True, connect_timeout=max(2, int(wait_s))
            ) as connection:
                await _check_role(connection)
                if migrations:
                    await migrate(connection)
            pool = AsyncConnectionPool(
                url,
                kwargs={"autocommit": True, "connect_timeout": max(2, int(wait_s))},
                min_size=1,
                max_size=connections_max,
                max_waiting=waiting_max,
                timeout=wait_s,
                reconnect_timeout=RECONNECT_S,
                open=False,
                name="ragmesh",
            )
            await pool.open()
            try:
                await pool.wait(timeout=wait_s)
            except BaseException:
                await pool.close()
                raise
        return cls(pool, wait_s)

    async def close(self) -> None:
        """Close every connection; transactions still open get some seconds to end."""
        await self._pool.close(timeout=5.0)

    def stats(self) -> dict[str, int]:
        """The pool's counters, as psycopg_pool names them."""
        return dict(self._pool.get_stats())

    async def healthy(self) -> bool:
        """Whether a transaction can be opened now."""
        try:
            async with self.transaction("health", timeout_s=2.0):
                return True
        except RagmeshError:
            return False

    @contextlib.asynccontextmanager
    async def transaction(
        self, tenant: str, *, timeout_s: float | None = None
    ) -> AsyncIterator[Tx]:
        """A transaction that sees and writes `tenant`'s rows only; committed at the end.

        `timeout_s`, such as what is left of a caller's deadline, bounds each statement. Raises
        StoreUnavailable, DeadlineExceeded and whatever is raised inside.
        """
        if not tenant or tenant == EVERY_TENANT:
            raise ValueError(f"no tenant: {tenant!r}")
        async with self._open("READ COMMITTED", tenant, timeout_s, IDLE_TIMEOUT_S) as tx:
            yield tx

    @contextlib.asynccontextmanager
    async def system(self, *, timeout_s: float | None = None) -> AsyncIterator[Tx]:
        """A transaction over all tenants: for the tailers, the job queue and clean-up."""
        async with self._open("READ COMMITTED", EVERY_TENANT, timeout_s, IDLE_TIMEOUT_S) as tx:
            yield tx

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Tx]:
        """One unchanging view of all tenants' rows, to read from as long as it takes."""
        mode = "REPEATABLE READ READ ONLY"
        async with self._open(mode, EVERY_TENANT, None, SNAPSHOT_IDLE_TIMEOUT_S) as tx:
            yield tx

    async def run(
        self,
        tenant: str,
        work: Callable[[Tx], Awaitable[T]],
        *,
        timeout_s: float | None = None,
    ) -> T:
        """`work` in a transaction of `tenant`, once more where nothing can have been committed.

        That is: after a deadlock or a serialization failure, and where the connection was lost
        before the commit was sent; and as often as it takes while a log is closed. `work` must have
        no effect but through its transaction.
        """
        wait_s = CLOSED_WAIT_S if timeout_s is None else min(CLOSED_WAIT_S, timeout_s)
        give_up_s = time.monotonic() + wait_s
        while True:
            try:
                async with self.transaction(tenant, timeout_s=timeout_s) as tx:
                    return await work(tx)
            except Closed:
                if time.monotonic() >= give_up_s:
                    raise
                await asyncio.sleep(CLOSED_PAUSE_S)
            except StoreUnavailable as error:
                if not repeatable(error):
                    raise
                break
        await asyncio.sleep(_PAUSE_S)
        async with self.transaction(tenant, timeout_s=timeout_s) as tx:
            return await work(tx)

    @contextlib.asynccontextmanager
    async def _open(
        self, mode: str, tenant: str, timeout_s: float | None, idle_s: float
    ) -> AsyncIterator[Tx]:
        given = timeout_s is not None
        statement_s = min(timeout_s or STATEMENT_TIMEOUT_S, STATEMENT_TIMEOUT_S)
        begin = _BEGIN.format(
            mode=sql.SQL(mode),
            tenant=sql.Literal(tenant),
            statement=_milliseconds(statement_s),
            lock=_milliseconds(min(LOCK_TIMEOUT_S, statement_s)),
            idle=_milliseconds(idle_s),
        ).as_bytes()
        with translated():
            connection = await self._begun(begin)
        try:
            try:
                with translated(deadline_given=given):
                    yield Tx(connection, tenant)
                if connection.info.transaction_status == pq.TransactionStatus.INERROR:
                    raise RuntimeError("a statement failed in this transaction: not committed")
            except BaseException:
                with contextlib.suppress(psycopg.Error):
                    await connection.rollback()
                raise
            with translated(committing=True, deadline_given=given):
                await connection.commit()
        finally:
            await self._pool.putconn(connection)

    async def _begun(self, begin: bytes) -> Connection:
        """A connection in a transaction. Dead ones, left by a restarted server, are passed over."""
        give_up = time.monotonic() + self._wait_s
        while True:
            left_s = give_up - time.monotonic()
            connection = await self._pool.getconn(timeout=max(left_s, 0.001))
            try:
                await connection.execute(begin, prepare=False)
                return connection
            except psycopg.OperationalError:
                await self._pool.putconn(connection)
                if time.monotonic() >= give_up:
                    raise
            except BaseException:
                await connection.close()
                await self._pool.putconn(connection)
                raise


def _milliseconds(seconds: float) -> sql.SQL:
    return sql.SQL(str(max(1, int(seconds * 1000))))


async def _check_role(connection: Connection) -> None:
    cursor = await connection.execute(
        "SELECT current_user::text, rolsuper OR rolbypassrls FROM pg_roles "
        "WHERE rolname = current_user"
    )
    row = await cursor.fetchone()
    if row is None:
        raise StoreUnavailable("PostgreSQL knows no current role", retry_after_s=RETRY_AFTER_S)
    role, bypasses = row
    if bypasses:
        raise FailedPrecondition(
            f"the PostgreSQL role {role!r} bypasses row security, which keeps tenants apart; "
            "connect as a role with NOSUPERUSER and NOBYPASSRLS that owns the database",
            metadata={"role": str(role)},
        )
