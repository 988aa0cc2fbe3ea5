"""What all handlers of the memory service share: their node's parts."""

from __future__ import annotations

from redis.asyncio import Redis

from services.mesh.mesh import Mesh
from services.store.store import Store


class Handlers:
    """The parts of a node that handlers use."""

    def __init__(self, store: Store, mesh: Mesh, redis: Redis | None) -> None:
        """`redis` is None for a node without one, which is slower and otherwise the same."""
        self._store = store
        self._mesh = mesh
        self._redis = redis
