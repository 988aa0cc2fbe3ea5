"""Histories of one collection on several nodes: what may happen, and what is looked at after it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import struct_pb2
from ragmesh.api.retrieval.v1 import collection_pb2, filter_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import DataLoss
from services.rpc.values import vector_value
from services.store.store import Store
from tests.services.retrieval.history_values import (
    DIMENSIONS,
    as_given,
    some_sparse,
    some_vector,
    sparse_message,
    sparse_value,
    vector_message,
)
from tests.services.retrieval.lives import LivingNode, a_call
from tests.services.retrieval.oracle import Oracle, Row, Scores, Sparse, Wanted, check_ranking

IDS = 40
WORDS = ("zorb", "quix", "blat", "fnord", "grok")
TAGS = ("red", "green", "blue")
Step = tuple[str, int]
"""What happens, and the seed of how."""

STEPS = (
    *("upsert", "upsert", "upsert", "upsert", "delete", "delete", "delete_by_filter"),
    *("write_at_once", "settle", "settle", "restart", "restart", "crash", "crash", "crash"),
    *("lose_files", "flip_files", "lose_object", "set_hnsw", "recreate"),
    *("compact", "snapshot", "restore"),
)
"""Names of what may happen, those more often that make a state worth breaking."""


class History:
    """A collection, two nodes that serve it, and what must be found in it."""

    def __init__(self, store: Store, root: Path, name: str) -> None:
        self.nodes = [LivingNode(store, root, one) for one in ("one", "two")]
        self._name = name
        self._oracle = Oracle()
        self._watermark = 0
        self._writes = 0
        self._snapshots: dict[str, dict[str, Row]] = {}
        self._objects_lost = False
        self._names = itertools.count(1)

    async def run(self, steps: list[Step]) -> None:
        """Takes the steps, and looks at both nodes after each."""
        for node in self.nodes:
            await node.start()
        try:
            await self._create(self.nodes[0])
            for number, (name, seed) in enumerate(steps):
                try:
                    step: Callable[[random.Random], Awaitable[None]] = getattr(self, name)
                    await step(random.Random(seed))
                    await self.check(random.Random(seed))
                except Exception as error:
                    error.add_note(f"step {number}: {name} {seed}")
                    raise
        finally:
            for node in self.nodes:
                await node.close()

    async def upsert(self, rng: random.Random) -> None:
        """Writes some points, some of them twice, on either node."""
        rows = self._rows(rng, rng.randint(1, 20))
        response = await self._upsert(self._any(rng), rows)
        self._seen(response.watermark)
        self._oracle.upsert(rows)
        assert response.upserted == len({row.id for row in rows})

    async def delete(self, rng: random.Random) -> None:
        """Deletes by id what may not be there."""
        ids = [f"p{rng.randrange(IDS)}" for _ in range(rng.randint(1, 15))]
        request = pb.DeletePointsRequest(collection=self._collection, ids=ids)
        response = await self._any(rng).servicer.DeletePoints(request, a_call())
        self._seen(response.watermark)
        assert response.deleted == self._oracle.delete(ids)

    async def delete_by_filter(self, rng: random.Random) -> None:
        """Deletes what a filter lets through."""
        node = rng.choice(self.nodes)
        await self._reach(node)
        message, wanted = self._filter(rng)
        request = pb.DeletePointsRequest(collection=self._collection, filter=message)
        response = await node.servicer.DeletePoints(request, a_call())
        self._seen(response.watermark)
        assert response.deleted == self._oracle.delete(self._oracle.matching(wanted))

    async def write_at_once(self, rng: random.Random) -> None:
        """Writes the same points on both nodes at once, while they are searched."""
        batches = [self._rows(rng, 6) for _ in range(4)]
        writes = [self._upsert(rng.choice(self.nodes), rows) for rows in batches]
        searches = [self._search(node, vector=(1.0, 0, 0, 0)) for node in self.nodes]
        done = await asyncio.gather(*writes)
        await asyncio.gather(*searches)
        # The log says who was last.
        for response, rows in sorted(
            zip(done, batches, strict=True), key=lambda one: int(one[0].watermark)
        ):
            self._seen(response.watermark)
            self._oracle.upsert(rows)

    async def settle(self, rng: random.Random) -> None:
        """Lets one node seal and merge all that is worth it."""
        node = self._any(rng)
        await self._reach(node)
        await node.settled()

    async def restart(self, rng: random.Random) -> None:
        """Ends a node well, and starts it."""
        node = rng.choice(self.nodes)
        await node.close()
        await self._meanwhile(rng)
        await node.start()

    async def crash(self, rng: random.Random) -> None:
        """Ends a node badly, maybe while it builds, and starts it."""
        node = rng.choice(self.nodes)
        await asyncio.sleep(rng.choice((0.0, 0.0, 0.05, 0.15)))
        await node.crash()
        await self._meanwhile(rng)
        await node.start()

    async def lose_files(self, rng: random.Random) -> None:
        """Takes away what a node has on its disk, while it is down."""
        node = rng.choice(self.nodes)
        await (node.crash() if rng.random() < 0.5 else node.close())
        node.lose(rng.choice(("files", "manifests", "segments")))
        await self._meanwhile(rng)
        await node.start()

    async def flip_files(self, rng: random.Random) -> None:
        """Flips bits of what a node has on its disk, while it is down."""
        node = rng.choice(self.nodes)
        await node.close()
        node.flip(rng.choice(("manifests", "segments")), rng.random())
        await self._meanwhile(rng)
        await node.start()

    async def lose_object(self, rng: random.Random) -> None:
        """Takes an object that all share away, and from a node that is down its own files."""
        node = rng.choice(self.nodes)
        await node.close()
        objects = sorted(node.objects.glob("[0-9a-f]*"))
        if objects:
            rng.choice(objects).unlink()
            self._objects_lost = True
        node.lose(rng.choice(("files", "segments")))
        await node.start()

    async def set_hnsw(self, rng: random.Random) -> None:
        """Changes what graphs are made with."""
        hnsw = collection_pb2.HnswSettings(
            m=rng.choice((4, 8)), ef_construction=20, ef_search=rng.choice((10, 50))
        )
        request = pb.UpdateCollectionRequest(
            collection=collection_pb2.Collection(name=self._collection, hnsw=hnsw)
        )
        await self._any(rng).servicer.UpdateCollection(request, a_call())

    async def recreate(self, rng: random.Random) -> None:
        """Deletes the collection on one node, and makes it anew on the other or the same."""
        request = pb.DeleteCollectionRequest(name=self._collection)
        await self._any(rng).servicer.DeleteCollection(request, a_call())
        await self._create(rng.choice(self.nodes))
        self._oracle = Oracle()
        self._snapshots = {}
        # Who reads at the watermark of a write to the new one gets nothing of the old one.
        await self.upsert(rng)

    async def compact(self, rng: random.Random) -> None:
        """Gives tombstones back on request."""
        node = rng.choice(self.nodes)
        await self._reach(node)
        request = pb.CompactCollectionRequest(
            collection=self._collection, full=rng.random() < 0.5, queries=4
        )
        response = await node.servicer.CompactCollection(request, a_call())
        assert response.points == len(self._oracle.rows)

    async def snapshot(self, rng: random.Random) -> None:
        """Keeps the collection as it is."""
        request = pb.CreateSnapshotRequest(parent=self._collection)
        response = await self._any(rng).servicer.CreateSnapshot(request, a_call())
        self._snapshots[response.snapshot.name] = dict(self._oracle.rows)

    async def restore(self, rng: random.Random) -> None:
        """Makes a collection of a snapshot, reads it on the other node, and deletes it."""
        if not self._snapshots:
            return
        name = rng.choice(sorted(self._snapshots))
        id = f"{self._name}-{next(self._names)}"
        request = pb.RestoreSnapshotRequest(name=name, collection_id=id)
        maker, reader = rng.sample(self.nodes, 2)
        try:
            response = await maker.servicer.RestoreSnapshot(request, a_call())
        except DataLoss:
            assert self._objects_lost
            return
        restored = f"collections/{id}"
        found = await self._listed(reader, restored, response.watermark, self._snapshots[name])
        assert {row.id: row for row in found} == self._snapshots[name]
        delete = pb.DeleteCollectionRequest(name=restored)
        await reader.servicer.DeleteCollection(delete, a_call())

    async def check(self, rng: random.Random) -> None:
        """Asks both nodes the same and the oracle too."""
        message, wanted = self._filter(rng)
        vector, sparse = some_vector(rng), some_sparse(rng)
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, 3)))
        limit = rng.choice((1, 5, 100))
        everything: Wanted = lambda _: True  # noqa: E731
        answers = []
        for node in self.nodes:
            listed = await self._listed(
                node, self._collection, str(self._watermark), self._oracle.rows
            )
            assert listed == [self._oracle.rows[id] for id in sorted(self._oracle.rows)], node.name
            count = pb.CountPointsRequest(
                collection=self._collection, filter=message, min_watermark=str(self._watermark)
            )
            counted = await node.servicer.CountPoints(count, a_call())
            assert counted.count == len(self._oracle.matching(wanted)), node.name
            asked: list[tuple[dict[str, Any], Scores | None]] = [
                ({"vector": vector}, self._oracle.dense(vector, everything)),
                ({"vector": vector, "filter": message}, self._oracle.dense(vector, wanted)),
                ({"text": text}, self._oracle.lexical(text, everything)),
                ({"text": text, "filter": message}, self._oracle.lexical(text, wanted)),
                ({"sparse": sparse}, self._oracle.sparse(sparse, everything)),
                ({"sparse": sparse, "filter": message}, self._oracle.sparse(sparse, wanted)),
            ]
            answers.append([await self._search(node, limit=limit, **query) for query, _ in asked])
            for (_, scores), found in zip(asked, answers[-1], strict=True):
                assert scores is not None
                check_ranking(found, scores, limit)
        assert answers[0] == answers[1]

    @property
    def _collection(self) -> str:
        return f"collections/{self._name}"

    def _any(self, rng: random.Random) -> LivingNode:
        """A node that runs."""
        return rng.choice([node for node in self.nodes if node.runs])

    async def _meanwhile(self, rng: random.Random) -> None:
        """What goes on while one node is down."""
        for _ in range(rng.randrange(3)):
            await rng.choice((self.upsert, self.delete, self.settle))(rng)

    def _seen(self, watermark: str) -> None:
        self._watermark = max(self._watermark, int(watermark))

    def _rows(self, rng: random.Random, count: int) -> list[Row]:
        rows = []
        for _ in range(count):
            self._writes += 1
            rows.append(
                Row(
                    id=f"p{rng.randrange(IDS)}",
                    vector=None if rng.random() < 0.2 else some_vector(rng),
                    text=" ".join(rng.choices(WORDS, k=rng.randint(0, 6))),
                    n=self._writes,
                    tag=rng.choice(TAGS),
                    sparse=() if rng.random() < 0.5 else some_sparse(rng),
                )
            )
        return rows

    def _filter(self, rng: random.Random) -> tuple[filter_pb2.Filter, Wanted]:
        tag, n = rng.choice(TAGS), rng.randint(0, self._writes + 1)
        has_tag = filter_pb2.Filter(
            equals=filter_pb2.FieldEquals(field="tag", value=struct_pb2.Value(string_value=tag))
        )
        above = filter_pb2.Filter(
            range=filter_pb2.FieldRange(field="n", gte=struct_pb2.Value(number_value=n))
        )
        both = filter_pb2.FilterList(filters=[has_tag, above])
        return rng.choice(
            [
                (has_tag, lambda row: row.tag == tag),
                (above, lambda row: row.n >= n),
                (filter_pb2.Filter(all_of=both), lambda row: row.tag == tag and row.n >= n),
                (filter_pb2.Filter(none_of=both), lambda row: row.tag != tag and row.n < n),
            ]
        )

    async def _create(self, node: LivingNode) -> None:
        made = collection_pb2.Collection(
            dimensions=DIMENSIONS, hnsw=collection_pb2.HnswSettings(m=4, ef_construction=20)
        )
        request = pb.CreateCollectionRequest(collection=made, collection_id=self._name)
        await node.servicer.CreateCollection(request, a_call())

    async def _upsert(self, node: LivingNode, rows: list[Row]) -> pb.UpsertPointsResponse:
        points = [
            point_pb2.Point(
                id=row.id,
                text=row.text,
                vector=None if row.vector is None else vector_message(row.vector),
                sparse_vector=sparse_message(row.sparse) if row.sparse else None,
            )
            for row in rows
        ]
        for point, row in zip(points, rows, strict=True):
            point.payload.update({"n": row.n, "tag": row.tag})
        request = pb.UpsertPointsRequest(collection=self._collection, points=points)
        return await node.servicer.UpsertPoints(request, a_call())

    async def _reach(self, node: LivingNode) -> None:
        """Has a node come to the last write."""
        request = pb.CountPointsRequest(
            collection=self._collection, min_watermark=str(self._watermark)
        )
        await node.servicer.CountPoints(request, a_call())

    async def _search(
        self,
        node: LivingNode,
        *,
        vector: tuple[float, ...] | None = None,
        text: str = "",
        sparse: Sparse = (),
        filter: filter_pb2.Filter | None = None,
        limit: int = 10,
    ) -> list[tuple[str, float]]:
        request = pb.SearchCollectionRequest(
            collection=self._collection,
            filter=filter,
            limit=limit,
            min_watermark=str(self._watermark),
        )
        if vector is not None:
            request.vector.CopyFrom(vector_message(vector))
        elif sparse:
            request.sparse_vector.CopyFrom(sparse_message(sparse))
        else:
            request.text = text
        response = await node.servicer.SearchCollection(request, a_call())
        return [(hit.point.id, hit.score) for hit in response.hits]

    async def _listed(
        self, node: LivingNode, collection: str, watermark: str, expected: Mapping[str, Row]
    ) -> list[Row]:
        request = pb.ListPointsRequest(
            collection=collection, page_size=1_000, include_vectors=True, min_watermark=watermark
        )
        response = await node.servicer.ListPoints(request, a_call())
        rows = []
        for point in response.points:
            stored = None
            if point.HasField("vector"):
                stored = tuple(vector_value(point.vector, "vector").tolist())
            kept = expected.get(point.id)
            rows.append(
                Row(
                    id=point.id,
                    # Scaled to length 1 by the index: the expected one where it points there.
                    vector=as_given(stored, None if kept is None else kept.vector),
                    text=point.text,
                    n=int(str(point.payload["n"]).removesuffix(".0")),
                    tag=str(point.payload["tag"]),
                    sparse=sparse_value(point.sparse_vector),
                )
            )
        return rows
