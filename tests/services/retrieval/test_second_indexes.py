"""What may be relied on of a second index: it comes to hold what the first one holds, takes over
without a lost write or a failed search, and gives back."""

from __future__ import annotations

import numpy as np
import pytest
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import collection_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import (
    InvalidField,
    MigrationExists,
    MigrationNotFound,
    MigrationNotReady,
    RecallTooLow,
)
from engine.index import list_points
from engine.types import Span
from services.config import LimitSettings
from services.retrieval.migration.mirror import PAGE_ROWS
from services.store.collections import get_collection, list_collections
from services.store.passages import PassageRow
from services.store.store import Store
from tests.services.retrieval.given_models import MODELS, Models, fingerprint_of, vector_of
from tests.services.retrieval.lives import LivingNode, a_call
from tests.services.retrieval.second_index import (
    LARGE,
    NAME,
    NODES,
    SMALL,
    State,
    check,
    delete,
    end,
    flip,
    make_collection,
    migration,
    nearest,
    start,
    until,
    until_ready,
    view_of,
    write,
)
from tests.services.store.publishing import create, publish


async def test_another_model_takes_over_and_gives_back(
    store: Store, node: LivingNode, models: Models
) -> None:
    texts = {f"p{n:03d}": f"text number {n}. And more." for n in range(70)}
    before = await write(node, texts)
    assert (await start(node)).state == State.STATE_BUILDING
    texts |= {"p003": "another text", "new": "a new one"}
    await write(node, {id: texts[id] for id in ("p003", "new")})
    await delete(node, "p005")
    del texts["p005"]
    # It may have been ready before these writes: then it has them soon after.
    ready = await until(node, lambda m: m.state == State.STATE_READY and not m.points_left)
    assert (ready.embedding_model, ready.dimensions) == (LARGE, MODELS[LARGE])
    assert (ready.points, ready.points_left, ready.problem) == (len(texts), 0, "")
    assert ready.queries > 20
    assert 0 <= ready.overlap < 1
    assert (ready.recall_before, ready.recall_after) == (1, 1)
    check(await view_of(node, store), SMALL, texts)

    await flip(node)
    seq = await write(node, {"late": "written after"})
    assert seq > before
    texts["late"] = "written after"
    assert (await migration(node)).state == State.STATE_FLIPPED
    check(await view_of(node, store, seq), LARGE, texts)
    assert await nearest(node, "written after", seq) == "late"
    await flip(node)  # as it is already

    await until(node, lambda found: found.points_left == 0)
    await flip(node, back=True)
    assert (await migration(node)).state == State.STATE_READY
    last = await delete(node, "new")
    assert last > seq
    del texts["new"]
    check(await view_of(node, store, last), SMALL, texts)
    await end(node)
    with pytest.raises(MigrationNotFound):
        await migration(node)
    check(await view_of(node, store, last), SMALL, texts)


async def test_the_hidden_index_has_no_name(store: Store, node: LivingNode) -> None:
    await write(node, {"a": "some text"})
    await start(node)
    async with store.transaction("default") as tx:
        assert [one.id for one in await list_collections(tx)] == ["papers"]
    with pytest.raises(MigrationExists):
        await start(node)
    await until_ready(node)
    await flip(node)
    async with store.transaction("default") as tx:
        assert [one.id for one in await list_collections(tx)] == ["papers"]
        assert (await get_collection(tx, "papers")).fingerprint == fingerprint_of(LARGE)


@pytest.mark.parametrize("flipped", [False, True])
async def test_ending_leaves_the_index_that_answers_and_nothing_else(
    store: Store, node: LivingNode, flipped: bool
) -> None:
    texts = {f"p{n}": f"text {n}" for n in range(30)}
    await write(node, texts)
    await start(node)
    await until_ready(node)
    if flipped:
        await flip(node)
    await end(node)
    check(await view_of(node, store), LARGE if flipped else SMALL, texts)
    async with store.system() as tx:
        counts = [
            (await tx.rows(f"SELECT count(*) FROM {table}"))[0][0]
            for table in ("collections", "heads", "index_migrations")
        ]
    assert counts == [1, 1, 0]
    await start(node, SMALL if flipped else LARGE)
    await until_ready(node)


async def test_other_settings_of_the_graph_embed_nothing(
    store: Store, node: LivingNode, models: Models
) -> None:
    texts = {f"p{n}": f"text {n}" for n in range(60)}
    await write(node, texts)
    embedded = dict(models.texts)
    await start(node, "", m=7, ef_construction=33)
    ready = await until_ready(node)
    assert (ready.hnsw.m, ready.hnsw.ef_construction, ready.hnsw.ef_search) == (7, 33, 64)
    assert ready.overlap == 1
    await flip(node)
    check(await view_of(node, store), SMALL, texts)
    assert models.texts == embedded
    async with store.transaction("default") as tx:
        assert (await get_collection(tx, "papers")).hnsw_m == 7


async def test_what_callers_bring_beside_a_text_comes_along(store: Store, node: LivingNode) -> None:
    """Payloads and sparse vectors, and points that have nothing to embed."""
    sparse = vector_pb2.SparseVector(indices=[3, 9], values=[0.5, 2.0])
    both = point_pb2.Point(id="both", text="some text", sparse_vector=sparse)
    both.payload["n"] = 7
    alone = point_pb2.Point(id="alone", sparse_vector=sparse)
    request = pb.UpsertPointsRequest(collection=NAME, points=[both, alone])
    await node.servicer.UpsertPoints(request, a_call())
    before = {p.id: p for p in list_points(await view_of(node, store), with_vectors=True)}
    await start(node)
    await until_ready(node)
    await flip(node)
    after = {p.id: p for p in list_points(await view_of(node, store), with_vectors=True)}
    assert after.keys() == before.keys()
    for id, point in after.items():
        assert (point.text, point.payload) == (before[id].text, before[id].payload)
        assert str(point.sparse_vector) == str(before[id].sparse_vector) != "None"
    assert after["both"].vector is not None and after["alone"].vector is None


async def test_passages_are_embedded_with_what_is_before_them_and_shared_when_they_come_back(
    store: Store, node: LivingNode, models: Models
) -> None:
    said, context = ("One sentence.", "Another one."), "Title > Heading"
    read = [f"{context}\n\n{text}" for text in said]
    passages = [
        PassageRow(
            passage_index=index,
            text=text,
            span=Span(20 * index, 20 * index + len(text)),
            context=context,
            vector=vector_of(SMALL, read[index]),
        )
        for index, text in enumerate(said)
    ]
    async with store.transaction("default") as tx:
        collection = await get_collection(tx, "papers")
    await create(store, collection, "d")
    await publish(store, collection, rows=passages, fingerprint=fingerprint_of(SMALL))

    async def held(model: str) -> None:
        found = list_points(await view_of(node, store), with_vectors=True)
        assert [(p.id, p.document, p.text) for p in found] == [
            (f"d#{index}", "d", text) for index, text in enumerate(said)
        ]
        assert [p.span for p in found] == [one.span for one in passages]
        for point, text in zip(found, read, strict=True):
            assert point.vector is not None
            np.testing.assert_allclose(point.vector, vector_of(model, text), atol=1e-6)

    await start(node)
    await until_ready(node)
    await held(SMALL)
    await flip(node)
    await held(LARGE)
    await end(node)
    embedded = models.texts[SMALL]
    await start(node, SMALL)
    await until_ready(node)
    await flip(node)
    await held(SMALL)
    # But for the questions that both are compared on, and the look at the model itself.
    assert models.texts[SMALL] <= embedded + len(said) + 1


async def test_a_migration_that_changes_nothing_is_refused(node: LivingNode) -> None:
    for model in ("", SMALL):
        with pytest.raises(InvalidField, match="as the present one"):
            await start(node, model, m=16)


async def test_a_point_that_cannot_be_embedded_is_named(node: LivingNode, store: Store) -> None:
    bare = point_pb2.Point(id="bare", vector=_packed(8))
    await node.servicer.UpsertPoints(
        pb.UpsertPointsRequest(collection=NAME, points=[bare]), a_call()
    )
    with pytest.raises(MigrationNotReady, match="'bare'"):
        await start(node)
    await delete(node, "bare")
    await write(node, {"a": "some text"})
    await start(node)
    await until_ready(node)
    await node.servicer.UpsertPoints(
        pb.UpsertPointsRequest(collection=NAME, points=[bare]), a_call()
    )
    stuck = await until(node, lambda found: found.problem != "")
    assert "'bare'" in stuck.problem
    with pytest.raises(MigrationNotReady, match="bare"):
        await flip(node)
    # It goes on by itself, and writes were not held up for long.
    await delete(node, "bare")
    await until(node, lambda found: found.problem == "" and found.points_left == 0)
    await flip(node)
    check(await view_of(node, store), LARGE, {"a": "some text"})


async def test_a_model_that_is_away_holds_it_up_and_no_longer(
    node: LivingNode, models: Models
) -> None:
    await write(node, {"a": "some text"})
    await start(node)
    models.away = True
    await until(node, lambda found: "away" in found.problem or not found.points_left)
    models.away = False
    assert (await until_ready(node)).points_left == 0


async def test_too_little_overlap_is_refused(node: LivingNode) -> None:
    await write(node, {f"p{n}": f"text {n}" for n in range(60)})
    await start(node)
    with pytest.raises(MigrationNotReady, match="being built"):
        await flip(node)
    await until_ready(node)
    with pytest.raises(RecallTooLow):
        await flip(node, overlap_min=0.99)
    await flip(node)


async def test_a_second_index_holds_what_its_collection_may(
    store: Store, model_nodes: NODES
) -> None:
    """It has no limits of its own, and those of nodes are for collections that say none."""
    node = model_nodes()
    node.limits = LimitSettings(points_max=10)
    await node.start()
    limits = collection_pb2.CollectionLimits(points_max=400)
    asked = collection_pb2.Collection(embedding_model=SMALL, limits=limits)
    await node.servicer.CreateCollection(
        pb.CreateCollectionRequest(collection_id="papers", collection=asked), a_call()
    )
    await write(node, {f"p{n}": f"text {n}" for n in range(PAGE_ROWS + 10)})
    await view_of(node, store)
    await start(node)
    assert (await until_ready(node)).problem == ""
    await write(node, {"p0": "another text"})
    await until(node, lambda found: found.points_left == 0)
    await flip(node)
    assert await nearest(node, "another text") == "p0"


async def test_a_deleted_collection_takes_its_second_index_along(
    store: Store, node: LivingNode
) -> None:
    await write(node, {"a": "some text"})
    await start(node)
    await node.servicer.DeleteCollection(pb.DeleteCollectionRequest(name=NAME), a_call())
    async with store.system() as tx:
        for table in ("collections", "heads", "commits", "index_migrations"):
            assert (await tx.rows(f"SELECT count(*) FROM {table}"))[0][0] == 0, table
    await make_collection(node)
    with pytest.raises(MigrationNotFound):
        await migration(node)


def _packed(dimensions: int) -> vector_pb2.Vector:
    return vector_pb2.Vector(packed=np.ones(dimensions, "<f4").tobytes())
