"""What all handlers of the document service share: their node's parts, and who is let in."""

from __future__ import annotations

from engine.errors import NoEmbeddingModel, QueueFull
from services.config import DocumentSettings
from services.documents.files import Files
from services.documents.pipeline import Pipeline
from services.mesh.mesh import Mesh
from services.objects.seam import ObjectStore
from services.rpc import names
from services.store import collections, jobs
from services.store.collections import Collection
from services.store.store import Store, Tx


class Handlers:
    """The parts of a node that handlers use."""

    def __init__(
        self,
        settings: DocumentSettings,
        store: Store,
        mesh: Mesh,
        owner: str,
        objects: ObjectStore,
    ) -> None:
        """`objects` has the files of documents, and is closed with it."""
        self._settings = settings
        self._store = store
        self._files = Files(store, objects)
        self._pipeline = Pipeline(settings, store, mesh, owner, self._files)

    async def _admitted(self, tx: Tx, collection_id: str) -> Collection:
        """The collection, if it takes a document now. Raises CollectionNotFound, NoEmbeddingModel
        and QueueFull."""
        collection = await collections.get_collection(tx, collection_id)
        if not collection.embedding_model:
            raise NoEmbeddingModel(
                f"Collection {collection.id!r} has no embedding model, so it takes points but no "
                "documents. Make one with a model.",
                field="parent",
                metadata={"collection": collection.id},
            )
        await self._require_place(tx)
        return collection

    async def _require_place(self, tx: Tx) -> None:
        """Raises QueueFull where no more jobs may wait."""
        waiting = await jobs.count_waiting(tx)
        if waiting >= self._settings.jobs_waiting_max:
            raise QueueFull(
                f"{waiting:,} documents wait to be ingested; at most "
                f"{self._settings.jobs_waiting_max:,} may. Try again later.",
                metadata={"waiting": waiting, "waiting_max": self._settings.jobs_waiting_max},
                retry_after_s=5.0,
            )


def collection_of(name: str) -> str:
    """The id in `collections/{id}`, as `parent` has it."""
    return names.collection_id(name, "parent")
