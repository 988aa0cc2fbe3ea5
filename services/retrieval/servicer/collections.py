"""Handlers of collections: check, call, translate, answer."""

from __future__ import annotations

import asyncio
import time

from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import InvalidField, RecallTooLow
from engine.index import view as views
from engine.index.comparing import DEPTH, FALL_MAX, compare_storage
from engine.index.storage import Storage
from services.retrieval import convert
from services.retrieval.convert import CHUNK_TOKENS_DEFAULT
from services.retrieval.core import PinnedModel, RetrievalCore
from services.retrieval.servicer.base import Handlers
from services.retrieval.stale import renewed
from services.rpc import fields, names, paging
from services.rpc.call import Call
from services.store import collections as rows
from services.store.collections import CollectionSpec
from services.store.once import once
from services.store.segments import mark_storage
from services.store.store import Tx

UPDATABLE = (
    "display_name",
    "chunking",
    "hnsw",
    "limits",
    "recall",
    "rerank_model",
    "vector_storage",
)

TRIAL_QUERIES = 64
"""Near live vectors: what another way to keep them is tried on."""

TRIAL_RECALL_MIN = 0.98


class CollectionHandlers(Handlers):
    """Makes, shows, changes and deletes collections."""

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, call: Call
    ) -> pb.CreateCollectionResponse:
        """Makes a collection."""
        spec = await new_spec(self._core, request.collection, call)

        async def work(tx: Tx) -> pb.CreateCollectionResponse:
            collection_id = request.collection_id or names.new_id()
            row = await rows.create_collection(tx, collection_id, spec, first_seq=first_seq())
            return pb.CreateCollectionResponse(collection=convert.collection_message(row))

        response = await once(
            self._store,
            call.tenant,
            request.request_id,
            request,
            pb.CreateCollectionResponse,
            work,
            timeout_s=call.remaining_s(),
        )
        self._indexes.nudge()
        return response

    async def GetCollection(
        self, request: pb.GetCollectionRequest, call: Call
    ) -> pb.GetCollectionResponse:
        """Returns one collection."""
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            row = await rows.get_collection(tx, names.collection_id(request.name))
        return pb.GetCollectionResponse(collection=convert.collection_message(row))

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, call: Call
    ) -> pb.ListCollectionsResponse:
        """Lists collections by name."""
        size = paging.page_size(request.page_size)
        after = paging.read_token("collections", request.page_token) or ""
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            found = await rows.list_collections(tx, after=after, limit=size + 1)
        response = pb.ListCollectionsResponse(
            collections=[convert.collection_message(r) for r in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = paging.write_token("collections", found[size - 1].id)
        return response

    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, call: Call
    ) -> pb.UpdateCollectionResponse:
        """Changes what may change."""
        changed, new = _changed_fields(request), request.collection
        chunking, hnsw, recall = (name in changed for name in ("chunking", "hnsw", "recall"))
        tokens_max = await self._chunk_tokens(new, call) if chunking else None
        if "rerank_model" in changed:
            await self._core.require_reranker(new.rerank_model, call)
        storage = None
        if "vector_storage" in changed:
            storage = convert.STORAGES[new.vector_storage]
            await self._try_storage(new.name, Storage(storage), call)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection_id = names.collection_id(new.name, "collection.name")
            before = await rows.hold_collection(tx, collection_id)
            row = await rows.update_collection(
                tx,
                collection_id,
                display_name=new.display_name if "display_name" in changed else None,
                chunk_tokens_max=tokens_max,
                chunk_overlap_tokens=convert.overlap(new, tokens_max) if tokens_max else None,
                chunk_strategy=convert.STRATEGIES[new.chunking.strategy] if chunking else None,
                hnsw_m=(new.hnsw.m or 16) if hnsw else None,
                hnsw_ef_construction=(new.hnsw.ef_construction or 100) if hnsw else None,
                hnsw_ef_search=(new.hnsw.ef_search or 64) if hnsw else None,
                limits=convert.limits(new.limits) if "limits" in changed else None,
                recall_sample_share=convert.sample_share(new) if recall else None,
                recall_target=convert.recall_target(new) if recall else None,
                rerank_model=new.rerank_model if "rerank_model" in changed else None,
                vector_storage=storage,
            )
            if storage not in (None, before.vector_storage):
                # Float16 rows do not give the float32 ones back: these are in the log.
                await mark_storage(tx, row, retire=storage == "float32")
        self._indexes.nudge(changed=True)
        return pb.UpdateCollectionResponse(collection=convert.collection_message(row))

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, call: Call
    ) -> pb.DeleteCollectionResponse:
        """Deletes a collection."""
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            row = await rows.delete_collection(tx, names.collection_id(request.name))
        self._indexes.forget(row)
        return pb.DeleteCollectionResponse()

    @renewed("name")
    async def GetCollectionStats(
        self, request: pb.GetCollectionStatsRequest, call: Call
    ) -> pb.GetCollectionStatsResponse:
        """Figures of this node's index."""
        collection = await self._collection(request.name, call, "name")
        view = await self._indexes.view(collection, fields.watermark(call.min_watermark), call)
        stats = views.stats(view)
        return pb.GetCollectionStatsResponse(
            points=stats.points,
            passages=views.count_passages(view),
            tombstones=stats.tombstones,
            segments=stats.segments,
            buffered_points=stats.buffered,
            memory_kib=(stats.heap_bytes + stats.vector_bytes + stats.graph_bytes) >> 10,
            watermark=str(stats.watermark),
            lag_commits=self._indexes.lag_commits(collection),
            token_bytes=stats.token_bytes,
            recall=map(convert.recall_message, self._index.recall.seen(collection)),
            refusal_reason=self._limiter.refusal_reason(collection),
        )

    async def _try_storage(self, name: str, storage: Storage, call: Call) -> None:
        """Raises RecallTooLow where searches would find too little in vectors kept so."""
        collection = await self._collection(name, call, "collection.name")
        if storage in (Storage.FLOAT32, Storage(collection.vector_storage)):
            return
        view = await self._indexes.view(collection, 0, call)
        async with self._trials:
            found = await asyncio.get_running_loop().run_in_executor(
                self._threads, compare_storage, view, storage, TRIAL_QUERIES
            )
        if found.worse or found.recall_after < TRIAL_RECALL_MIN:
            raise RecallTooLow(
                f"Kept as {storage}, recall@{DEPTH} of {found.queries} queries would be "
                f"{found.recall_after:.4f}, and is {found.recall_before:.4f} now; it must be "
                f"{TRIAL_RECALL_MIN} at least and not fall by more than {FALL_MAX}. Raise "
                "hnsw.ef_search, or keep the vectors as they are.",
                metadata={
                    "recall_before": found.recall_before,
                    "recall_after": found.recall_after,
                    "recall_min": TRIAL_RECALL_MIN,
                },
            )

    async def _chunk_tokens(self, new: collection_pb2.Collection, call: Call) -> int:
        """The most tokens of a passage from now on. Raises InvalidField where the collection's
        model reads less."""
        collection = await self._collection(new.name, call, "collection.name")
        if not collection.embedding_model:
            return new.chunking.tokens_max or CHUNK_TOKENS_DEFAULT
        model = await self._core.model_of(collection.embedding_model, call)
        _check_chunking(new, model)
        return convert.chunk_tokens(new, model)


async def new_spec(
    core: RetrievalCore, asked: collection_pb2.Collection, call: Call
) -> CollectionSpec:
    """What a new collection is made with, from what is asked for and what its model says of itself.
    Raises InvalidField and EmbeddingModelNotFound."""
    model = PinnedModel("", "", asked.dimensions, CHUNK_TOKENS_DEFAULT)
    if asked.embedding_model or not asked.dimensions:
        name = asked.embedding_model or "embeddingModels/default"
        model = await core.model_of(name, call)
        if asked.dimensions not in (0, model.dimensions):
            raise InvalidField(
                f"collection.dimensions is {asked.dimensions}, but {model.name} makes vectors "
                f"of {model.dimensions}. Leave it out.",
                field="collection.dimensions",
                metadata={"dimensions": asked.dimensions, "model_dimensions": model.dimensions},
            )
        _check_chunking(asked, model)
    if asked.token_store and not model.name:
        raise InvalidField(
            "collection.token_store needs an embedding model, whose tokens it keeps. Name one "
            "in collection.embedding_model, or leave token_store out.",
            field="collection.token_store",
        )
    await core.require_reranker(asked.rerank_model, call)
    return convert.collection_spec(asked, model)


def first_seq() -> int:
    """Where a new collection's commits begin to count: at the milliseconds since 1970, above where
    an earlier collection of the name can have come, unless it took more than 1,000 commits in each
    second of its life. So a watermark of that one, kept by some client, is not waited for."""
    return time.time_ns() // 1_000_000


def _changed_fields(request: pb.UpdateCollectionRequest) -> set[str]:
    paths = {p.split(".")[0] for p in request.update_mask.paths}
    if "*" in paths:
        return set(UPDATABLE)
    if not paths:
        present = {f.name for f, _ in request.collection.ListFields()} - {"name"}
        paths = present
    fixed = paths - set(UPDATABLE)
    if fixed or not paths:
        shown = ", ".join(sorted(fixed)) or "nothing"
        raise InvalidField(
            f"The change names {shown}; what may change is {', '.join(UPDATABLE)}.",
            field="update_mask",
            metadata={"fields": shown},
        )
    return paths


def _check_chunking(collection: collection_pb2.Collection, model: PinnedModel) -> None:
    """Raises InvalidField for passages that the model would cut."""
    tokens_max = collection.chunking.tokens_max
    if tokens_max > model.passage_tokens_max:
        raise InvalidField(
            f"collection.chunking.tokens_max is {tokens_max:,}, but {model.name} reads passages of "
            f"at most {model.passage_tokens_max:,} tokens.",
            field="collection.chunking.tokens_max",
            metadata={
                "tokens_max": tokens_max,
                "model": model.name,
                "model_tokens_max": model.passage_tokens_max,
            },
        )
