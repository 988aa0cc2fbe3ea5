"""What all handlers of the memory service share: their node's parts."""

from __future__ import annotations

from redis.asyncio import Redis

from services.memory.history import SessionHistory
from services.memory.window import Windows
from services.mesh.mesh import Mesh
from services.store.store import Store


class Handlers:
    """The parts of a node that handlers use."""

    def __init__(
        self, store: Store, mesh: Mesh, redis: Redis | None, generation_model: str
    ) -> None:
        """`redis` is None for a node without one, which is slower and otherwise the same.
        `generation_model` is who writes where a request names nobody."""
        self._store = store
        self._mesh = mesh
        self._redis = redis
        self._generation_model = generation_model
        self._windows = Windows(redis)
        self._history = SessionHistory()
