"""The retrieval service's handlers: check, call, translate, answer."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor

from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import InvalidField
from engine.index import view as views
from services.mesh.mesh import Mesh
from services.retrieval import answering, asking, convert
from services.retrieval.checks import CHECKS
from services.retrieval.convert import CHUNK_TOKENS_DEFAULT
from services.retrieval.core import PinnedModel, RetrievalCore
from services.retrieval.opening import IndexRoom
from services.retrieval.running import Answered
from services.retrieval.searching import Searcher
from services.retrieval.stale import renewed
from services.rpc import fields, names, paging
from services.rpc.call import Call
from services.rpc.values import payload_value, vector_value
from services.store import collections as rows
from services.store.collections import Collection
from services.store.once import once
from services.store.points import Commit, PointRow, apply_batch
from services.store.store import Store, Tx

DELETE_BY_FILTER_MAX = 100_000
"""Points that one DeletePoints with a filter removes; more need several calls."""

UPDATABLE = ("display_name", "chunking", "hnsw")


class RetrievalServicer:
    """Serves all collections of all tenants from indexes in this process."""

    checks = CHECKS

    def __init__(self, store: Store, mesh: Mesh, threads: Executor, index: IndexRoom) -> None:
        self._store = store
        self._threads = threads
        self._index = index
        self._indexes = index.indexes
        self._core = RetrievalCore(self._indexes, mesh, threads)
        self._searcher = Searcher(self._indexes, mesh, threads)

    async def start(self) -> None:
        """Starts to follow the log."""
        await self._index.start()

    async def drain(self) -> None:
        """Indexes are followed until the end: calls in flight may wait for a watermark."""

    async def close(self) -> None:
        """Stops following."""
        await self._index.close()

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, call: Call
    ) -> pb.CreateCollectionResponse:
        """Makes a collection."""
        asked = request.collection
        model = PinnedModel("", "", asked.dimensions, CHUNK_TOKENS_DEFAULT)
        if asked.embedding_model or not asked.dimensions:
            name = asked.embedding_model or "embeddingModels/default"
            model = await self._core.model_of(name, call)
            if asked.dimensions not in (0, model.dimensions):
                raise InvalidField(
                    f"collection.dimensions is {asked.dimensions}, but {model.name} makes vectors "
                    f"of {model.dimensions}. Leave it out.",
                    field="collection.dimensions",
                    metadata={"dimensions": asked.dimensions, "model_dimensions": model.dimensions},
                )
            _check_chunking(asked, model)
        spec = convert.collection_spec(asked, model)

        async def work(tx: Tx) -> pb.CreateCollectionResponse:
            collection_id = request.collection_id or names.new_id()
            row = await rows.create_collection(tx, collection_id, spec, first_seq=_first_seq())
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
        chunking, hnsw = "chunking" in changed, "hnsw" in changed
        tokens_max = await self._chunk_tokens(new, call) if chunking else None
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            row = await rows.update_collection(
                tx,
                names.collection_id(new.name, "collection.name"),
                display_name=new.display_name if "display_name" in changed else None,
                chunk_tokens_max=tokens_max,
                chunk_overlap_tokens=convert.overlap(new, tokens_max) if tokens_max else None,
                hnsw_m=(new.hnsw.m or 16) if hnsw else None,
                hnsw_ef_construction=(new.hnsw.ef_construction or 100) if hnsw else None,
                hnsw_ef_search=(new.hnsw.ef_search or 64) if hnsw else None,
            )
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
        )

    @renewed("collection")
    async def UpsertPoints(
        self, request: pb.UpsertPointsRequest, call: Call
    ) -> pb.UpsertPointsResponse:
        """Writes points."""
        collection = await self._collection(request.collection, call)
        given = [
            PointRow(
                id=point.id,
                vector=(
                    vector_value(point.vector, f"points[{index}].vector")
                    if point.HasField("vector")
                    else None
                ),
                text=point.text,
                payload=payload_value(point.payload),
            )
            for index, point in enumerate(request.points)
        ]
        batch = await self._core.complete(collection, given, request.fingerprint, call)

        async def work(tx: Tx) -> pb.UpsertPointsResponse:
            commit = await apply_batch(tx, collection, batch)
            return pb.UpsertPointsResponse(watermark=str(commit.seq), upserted=commit.upserted)

        response = await once(
            self._store,
            call.tenant,
            request.request_id,
            request,
            pb.UpsertPointsResponse,
            work,
            timeout_s=call.remaining_s(),
        )
        await self._after_write(collection, int(response.watermark), request.wait, call)
        return response

    @renewed("collection")
    async def DeletePoints(
        self, request: pb.DeletePointsRequest, call: Call
    ) -> pb.DeletePointsResponse:
        """Deletes points."""
        collection = await self._collection(request.collection, call)
        ids, unchanged_since = list(request.ids), None
        if request.HasField("filter"):
            ids, unchanged_since = await self._core.matching_ids(
                collection,
                convert.filter_value(request.filter),
                fields.watermark(call.min_watermark),
                call,
                DELETE_BY_FILTER_MAX,
            )

        async def work(tx: Tx) -> pb.DeletePointsResponse:
            commit: Commit = await apply_batch(
                tx, collection, deletes=ids, unchanged_since=unchanged_since
            )
            return pb.DeletePointsResponse(
                watermark=str(commit.seq),
                deleted=commit.deleted,
                filter_watermark="" if unchanged_since is None else str(unchanged_since),
            )

        response = await once(
            self._store,
            call.tenant,
            request.request_id,
            request,
            pb.DeletePointsResponse,
            work,
            timeout_s=call.remaining_s(),
        )
        await self._after_write(collection, int(response.watermark), request.wait, call)
        return response

    @renewed("collection")
    async def GetPoints(self, request: pb.GetPointsRequest, call: Call) -> pb.GetPointsResponse:
        """Returns points by id."""
        collection, view = await self._view(request.collection, request.min_watermark, call)
        found = views.get(view, request.ids, with_vectors=request.include_vectors)
        return pb.GetPointsResponse(
            points=[
                convert.point_message(p, collection.id, vectors=request.include_vectors)
                for p in found
            ],
            watermark=str(view.watermark),
        )

    @renewed("collection")
    async def ListPoints(self, request: pb.ListPointsRequest, call: Call) -> pb.ListPointsResponse:
        """Lists points by id."""
        collection, view = await self._view(request.collection, request.min_watermark, call)
        size = paging.page_size(request.page_size)
        filter_key = request.filter.SerializeToString(deterministic=True).hex()
        listing = f"points/{collection.uid}/{filter_key}"
        after = paging.read_token(listing, request.page_token) or ""
        condition = convert.filter_value(request.filter) if request.HasField("filter") else None
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: views.list_points(
                view,
                after_id=after,
                limit=size + 1,
                filter=condition,
                with_vectors=request.include_vectors,
            ),
        )
        response = pb.ListPointsResponse(
            points=[
                convert.point_message(p, collection.id, vectors=request.include_vectors)
                for p in found[:size]
            ]
        )
        if len(found) > size:
            response.next_page_token = paging.write_token(listing, found[size - 1].id)
        return response

    @renewed("collection")
    async def CountPoints(
        self, request: pb.CountPointsRequest, call: Call
    ) -> pb.CountPointsResponse:
        """Counts points."""
        _, view = await self._view(request.collection, request.min_watermark, call)
        condition = convert.filter_value(request.filter) if request.HasField("filter") else None
        number = await asyncio.get_running_loop().run_in_executor(
            self._threads, views.count, view, condition
        )
        return pb.CountPointsResponse(count=number, watermark=str(view.watermark))

    @renewed("collection")
    async def SearchCollection(
        self, request: pb.SearchCollectionRequest, call: Call
    ) -> pb.SearchCollectionResponse:
        """Finds points."""
        collection = await self._collection(request.collection, call)
        least = fields.watermark(request.min_watermark or call.min_watermark)
        asked = asking.search_value(request)
        answered = await self._searcher.search(collection, asked, least, call)
        response = pb.SearchCollectionResponse()
        answering.fill(response, answered, collection.id, request)
        return response

    @renewed("collection")
    async def BatchSearchCollection(
        self, request: pb.BatchSearchCollectionRequest, call: Call
    ) -> pb.BatchSearchCollectionResponse:
        """Finds points for several searches."""
        collection = await self._collection(request.collection, call)
        least = fields.watermark(request.min_watermark or call.min_watermark)
        response = pb.BatchSearchCollectionResponse()
        messages = [response.responses.add() for _ in request.searches]
        searches = []
        for index, one in enumerate(request.searches):
            with asking.located(f"searches[{index}]"):
                searches.append(asking.search_value(one))

        def use(index: int, answered: Answered) -> int:
            answering.fill(messages[index], answered, collection.id, request.searches[index])
            return answered.watermark

        marks = await self._searcher.batch(collection, searches, least, call, use)
        response.watermark = str(marks[0])
        return response

    async def _chunk_tokens(self, new: collection_pb2.Collection, call: Call) -> int:
        """The most tokens of a passage from now on. Raises InvalidField where the collection's
        model reads less."""
        collection = await self._collection(new.name, call, "collection.name")
        if not collection.embedding_model:
            return new.chunking.tokens_max or CHUNK_TOKENS_DEFAULT
        model = await self._core.model_of(collection.embedding_model, call)
        _check_chunking(new, model)
        return convert.chunk_tokens(new, model)

    async def _collection(self, name: str, call: Call, field: str = "collection") -> Collection:
        return await self._indexes.collection(call.tenant, names.collection_id(name, field), call)

    async def _view(
        self, name: str, min_watermark: str, call: Call
    ) -> tuple[Collection, views.View]:
        collection = await self._collection(name, call)
        least = fields.watermark(min_watermark or call.min_watermark)
        return collection, await self._indexes.view(collection, least, call)

    async def _after_write(self, collection: Collection, seq: int, wait: bool, call: Call) -> None:
        self._indexes.nudge(collection)
        if wait:
            await self._indexes.view(collection, seq, call)


def _first_seq() -> int:
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
