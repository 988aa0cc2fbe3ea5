"""What all handlers of the document service share: their node's parts, and who is let in."""

from __future__ import annotations

from engine.errors import NoEmbeddingModel
from services.config import DocumentSettings
from services.documents.admission import Admission
from services.documents.files import Files
from services.documents.pipeline import Pipeline
from services.mesh.mesh import Mesh
from services.objects.seam import ObjectStore
from services.rpc import names
from services.store import collections
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
        self._admission = Admission(settings.jobs_waiting_max)
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
        await self._admission.require_room(tx)
        return collection


def collection_of(name: str) -> str:
    """The id in `collections/{id}`, as `parent` has it."""
    return names.collection_id(name, "parent")
