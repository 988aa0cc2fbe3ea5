"""What PostgreSQL and its pool raise, turned into the errors of ragmesh."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import psycopg_pool
from psycopg import errors as pg

from engine.errors import DataLoss, DeadlineExceeded, RagmeshError, StoreUnavailable

RETRY_AFTER_S = 0.2


@contextlib.contextmanager
def translated(*, committing: bool = False, deadline_given: bool = False) -> Iterator[None]:
    """Raise StoreUnavailable, DeadlineExceeded or DataLoss for what goes wrong inside.

    Anything else that PostgreSQL refuses is our bug and becomes a RuntimeError.
    """
    try:
        yield
    except psycopg.Error as error:
        raise _translate(error, committing, deadline_given) from error


def _translate(error: psycopg.Error, committing: bool, deadline_given: bool) -> Exception:
    match error:
        case psycopg_pool.TooManyRequests():
            return _unavailable("too many calls wait for a PostgreSQL connection; try again")
        case psycopg_pool.PoolTimeout() | psycopg_pool.PoolClosed():
            return _unavailable("no PostgreSQL connection became free in time; try again")
        case pg.QueryCanceled() if deadline_given:
            return DeadlineExceeded("PostgreSQL did not answer before the deadline")
        case pg.QueryCanceled():
            return _unavailable("PostgreSQL did not answer in time; try again")
        case pg.LockNotAvailable():
            return _unavailable("another write holds the row for too long; try again")
        case pg.SerializationFailure() | pg.DeadlockDetected():
            return _unavailable("another write came between; try again")
        case pg.ReadOnlySqlTransaction():
            return _unavailable("this PostgreSQL takes no writes now (a standby); try again")
        case pg.DataCorrupted() | pg.IndexCorrupted():
            return DataLoss("PostgreSQL reports corrupted data; see its log and restore a backup")
        case psycopg.OperationalError() if error.sqlstate and error.sqlstate[:2] in ("53", "58"):
            return _unavailable("PostgreSQL lacks resources (disk, memory); see its log")
        case psycopg.OperationalError():
            return StoreUnavailable(
                "the connection to PostgreSQL was lost; try again",
                metadata={"outcome": "unknown"} if committing else {},
                retry_after_s=RETRY_AFTER_S,
            )
    kind = type(error).__name__
    return RuntimeError(f"PostgreSQL refused a statement ({error.sqlstate}): {kind}")


def _unavailable(message: str) -> RagmeshError:
    return StoreUnavailable(message, retry_after_s=RETRY_AFTER_S)


def repeatable(error: StoreUnavailable) -> bool:
    """Whether nothing was committed and a second try may well succeed at once."""
    match error.__cause__:
        case pg.SerializationFailure() | pg.DeadlockDetected():
            return True
        case psycopg_pool.PoolTimeout() | pg.QueryCanceled() | pg.LockNotAvailable():
            return False
        case psycopg.OperationalError():
            return "outcome" not in error.metadata
    return False
