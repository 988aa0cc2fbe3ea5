"""The models of this node: which are in memory, who uses them, and which makes room.

What is true of it, on one event loop:

- a model is loaded once for all who ask for it at the same time, in a thread; one who leaves, or
  whose deadline passes, ends nobody else's load;
- a load that failed is tried again, but not by every call: the next ones get the same error at
  once, for 1 s after the first failure and twice as long after each further one;
- what is loaded, with what is being loaded, stays within the memory budget. To fit, models that
  nobody uses leave, the longest unused first. One in use stays until its last caller is answered;
- the default model is always in memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from engine.errors import (
    EmbeddingModelNotFound,
    ModelMemoryFull,
    NodeDraining,
    RagmeshError,
)
from services.config import ModelSettings
from services.embedding.hub import Progress
from services.embedding.loader import Description, Loader
from services.embedding.served import ServedModel, no_vectors
from services.embedding.specs import DEFAULT, ModelSpec
from services.rpc.machine import budget

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

RETRY_S_MIN, RETRY_S_MAX = 1.0, 60.0
"""How long a failed load is not tried again: the first time, and at the most."""

BUSY_RETRY_S = 1.0
"""What a caller is told to wait where every loaded model is in use: calls are short."""

LOADS_AT_ONCE = 2
"""A download should not keep a model from loading that is here already."""


@dataclass(eq=False, slots=True)
class _Entry:
    """One model and where it stands. `uses` are calls that hold or await it."""

    spec: ModelSpec
    served: ServedModel | None = None
    loading: asyncio.Task[ServedModel] | None = None
    memory_bytes: int = 0
    uses: int = 0
    used_s: float = 0.0
    failure: Exception | None = None
    failures: int = 0
    retry_s: float = 0.0


class Catalog:
    """Models by id, loaded on demand. The first of `specs` is the default.

    `threads` reads directories; loads have threads of their own.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        loader: Loader,
        settings: ModelSettings,
        threads: Executor,
    ) -> None:
        self._settings = settings
        self._budget_bytes = budget(settings.memory_bytes_max)
        self._entries = {spec.id: _Entry(spec) for spec in specs}
        self._default = self._entries[specs[0].id]
        self._loader = loader
        self._threads = threads
        self._loads = ThreadPoolExecutor(LOADS_AT_ONCE, thread_name_prefix="model-load")
        self._closed = False

    async def start(self) -> None:
        """Loads the default model, then those to be preloaded. Raises what is wrong with one."""
        for entry in self._entries.values():
            if entry is self._default or entry.spec.preload:
                await self._joined(entry)

    async def close(self) -> None:
        """Ends loads and queues; who still waits for one gets NodeDraining."""
        self._closed = True
        loading = [e.loading for e in self._entries.values() if e.loading is not None]
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        for entry in self._entries.values():
            if entry.served is not None:
                await entry.served.close()
                entry.served = None
        self._loads.shutdown(wait=False, cancel_futures=True)

    def ids(self) -> list[str]:
        """The ids of all models, sorted."""
        return sorted(self._entries)

    async def describe(self, model_id: str) -> Description:
        """A model as it is now, without loading it.

        Raises EmbeddingModelNotFound; and, for one that is not loaded, what is wrong with its
        directory.
        """
        entry = self._entry(model_id)
        if entry.served is not None:
            return entry.served.description
        return await self._in(self._threads, lambda: self._loader.describe(entry.spec))

    @asynccontextmanager
    async def using(self, model_id: str) -> AsyncIterator[ServedModel]:
        """A model in memory, loaded if it is not, which stays there until the context ends.

        Raises EmbeddingModelNotFound, ModelMemoryFull, or what is wrong with the model.
        """
        entry = self._entry(model_id)
        # Counted before it waits: what is loaded for a caller must not leave before it comes.
        entry.uses += 1
        try:
            yield entry.served or await self._joined(entry)
        finally:
            entry.uses -= 1
            entry.used_s = time.monotonic()

    @asynccontextmanager
    async def encoder(self, model_id: str) -> AsyncIterator[ServedModel]:
        """As `using`, for vectors. Raises ModelTaskMismatch for a cross-encoder, and does not load
        it for that."""
        if self._entry(model_id).served is None:
            known = await self.describe(model_id)
            if known.task == "rerank":
                raise no_vectors(known)
        async with self.using(model_id) as served:
            yield served

    def _entry(self, model_id: str) -> _Entry:
        if model_id == DEFAULT:
            return self._default
        entry = self._entries.get(model_id)
        if entry is None:
            raise EmbeddingModelNotFound(
                f"No embedding model {model_id!r} is served; there is: {', '.join(self.ids())}.",
                field="model",
                metadata={"model": model_id},
            )
        return entry

    async def _joined(self, entry: _Entry) -> ServedModel:
        """The model once the load that runs, or a new one, is through."""
        if self._closed:
            raise _stopping()
        task = entry.loading
        if task is None:
            _refuse_early(entry)
            task = asyncio.create_task(self._load(entry), name=f"load {entry.spec.id}")
            entry.loading = task
            task.add_done_callback(lambda done: _settle(entry, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise _stopping() from None
            raise

    async def _load(self, entry: _Entry) -> ServedModel:
        begin_s = time.monotonic()
        spec, loader = entry.spec, self._loader
        directory = await self._in(self._loads, lambda: loader.fetch(spec, self._go_on))
        description = await self._in(self._loads, lambda: loader.describe(spec))
        await self._make_room(entry, description.memory_bytes)
        try:
            encoder = await self._in(self._loads, lambda: loader.load(spec, directory))
        except BaseException:
            entry.memory_bytes = 0
            raise
        description = loader.running(description, encoder)
        served = ServedModel(description, encoder, self._settings)
        entry.served, entry.memory_bytes = served, description.memory_bytes
        _LOG.info(
            "model loaded",
            extra={
                "model": spec.id,
                "seconds": round(time.monotonic() - begin_s, 3),
                "memory_mib": entry.memory_bytes >> 20,
            },
        )
        return served

    async def _make_room(self, entry: _Entry, wanted_bytes: int) -> None:
        """Reserves memory for a model, and lets others go for it. Raises ModelMemoryFull."""
        leaving = [] if entry is self._default else self._leaving(entry, wanted_bytes)
        # No await in between: two loads must not count on the same memory.
        entry.memory_bytes = wanted_bytes
        evicted = [other.served for other in leaving if other.served is not None]
        for other in leaving:
            other.served, other.memory_bytes = None, 0
            _LOG.info("model leaves memory", extra={"model": other.spec.id, "for": entry.spec.id})
        for served in evicted:
            await served.close()

    def _leaving(self, entry: _Entry, wanted_bytes: int) -> list[_Entry]:
        """The models to let go of so that `wanted_bytes` fit, as few as possible."""
        most_bytes = self._budget_bytes - self._default.memory_bytes
        if wanted_bytes > most_bytes:
            raise self._full(entry, wanted_bytes, "raise models.memory_bytes_max", None)
        taken_bytes = sum(other.memory_bytes for other in self._entries.values())
        idle = [
            other
            for other in self._entries.values()
            if other.served is not None and not other.uses and other is not self._default
        ]
        leaving: list[_Entry] = []
        for other in sorted(idle, key=lambda one: one.used_s):
            if taken_bytes + wanted_bytes <= self._budget_bytes:
                break
            leaving.append(other)
            taken_bytes -= other.memory_bytes
        if taken_bytes + wanted_bytes > self._budget_bytes:
            raise self._full(entry, wanted_bytes, "the others are in use: try again", BUSY_RETRY_S)
        return leaving

    def _full(
        self, entry: _Entry, wanted_bytes: int, advice: str, retry_after_s: float | None
    ) -> ModelMemoryFull:
        kept_bytes = self._default.memory_bytes
        return ModelMemoryFull(
            f"{entry.spec.id} needs {wanted_bytes >> 20} MiB; models may take "
            f"{self._budget_bytes >> 20} MiB, of which the default one keeps {kept_bytes >> 20}; "
            f"{advice}",
            metadata={
                "model": entry.spec.id,
                "memory_bytes": wanted_bytes,
                "memory_bytes_max": self._budget_bytes,
                "memory_bytes_default": kept_bytes,
            },
            retry_after_s=retry_after_s,
        )

    def _go_on(self, progress: Progress) -> None:
        """Ends a download, which no cancel reaches, when the node stops."""
        if self._closed:
            raise _stopping()

    async def _in(self, threads: Executor, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def _settle(entry: _Entry, done: asyncio.Task[ServedModel]) -> None:
    """What a load leaves behind: nothing, or when it may be tried again."""
    entry.loading = None
    error = None if done.cancelled() else done.exception()
    if error is None:
        entry.failure, entry.failures = None, 0
    elif isinstance(error, Exception) and not isinstance(error, ModelMemoryFull):
        pause_s = min(RETRY_S_MAX, RETRY_S_MIN * 2.0**entry.failures)
        entry.failure, entry.failures = error, entry.failures + 1
        entry.retry_s = time.monotonic() + pause_s
        _LOG.warning("model failed to load", extra={"model": entry.spec.id, "error": str(error)})


def _refuse_early(entry: _Entry) -> None:
    """Raises the last failure while it is too early to try again."""
    early_s = entry.retry_s - time.monotonic()
    if entry.failure is None or early_s <= 0:
        return
    if not isinstance(entry.failure, RagmeshError):
        raise entry.failure
    raise type(entry.failure)(
        entry.failure.message,
        field=entry.failure.field,
        metadata=entry.failure.metadata,
        retry_after_s=early_s,
    ) from entry.failure


def _stopping() -> NodeDraining:
    return NodeDraining("This node stops. Try another one.")
