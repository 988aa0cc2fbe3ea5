"""What jobs on Ray Data share: the cluster, the store, and how they say that Ray failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import ray
from ray.exceptions import RayError

from engine.errors import ServiceUnavailable
from services.config import Settings
from services.store.store import Store

TENANT = "default"


async def open_store(settings: Settings) -> Store:
    """PostgreSQL, for a process of the job."""
    url = settings.store.postgres_url.get_secret_value()
    return await Store.open(url, connections_max=2, migrations=False)


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """In the cluster. Raises ServiceUnavailable."""
    try:
        ray.init(address=address, namespace="ragmesh", log_to_driver=False, configure_logging=False)
    except (RayError, RuntimeError, ConnectionError, ValueError, OSError) as error:
        raise failed(error, "take the job") from error
    try:
        yield
    finally:
        ray.shutdown()


def failed(error: Exception, what: str) -> ServiceUnavailable:
    """The error that says what Ray did not do."""
    said = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return ServiceUnavailable(
        f"Ray did not {what}: {said[0]}. What was written stays; the mesh goes on with it.",
        metadata={"problem": said[0]},
    )


def require_data() -> None:
    """Raises ServiceUnavailable where Ray Data is not installed whole."""
    try:
        import ray.data as _data  # noqa: F401 - it needs more packages than ray itself
    except ImportError as error:
        raise ServiceUnavailable(
            f"Ray Data is not installed whole ({error}): pip install 'ragmesh-server[ray]'",
            metadata={"problem": str(error)},
        ) from error
