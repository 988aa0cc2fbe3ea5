"""Hits bring the larger passage around a small one only where it is true, and never fail for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import DeadlineExceeded, RagmeshError, StoreUnavailable
from engine.types import Span
from services.retrieval.search import parents
from services.rpc.call import Call
from services.store.collections import Collection
from services.store.parents import Parent
from services.store.store import Store

pytestmark = pytest.mark.asyncio

WHOLE = "One sentence. Two of them. Three at last."
_COLLECTION = cast(Collection, SimpleNamespace(chunk_strategy="hierarchical"))


class _Store:
    """Opens transactions, or fails with an error."""

    def __init__(self, error: RagmeshError | None = None) -> None:
        self.opened = 0
        self._error = error

    @contextlib.asynccontextmanager
    async def transaction(self, tenant: str, *, timeout_s: float | None) -> AsyncIterator[None]:
        self.opened += 1
        assert timeout_s is not None and timeout_s <= parents.WAIT_S
        if self._error is not None:
            raise self._error
        yield None


def _response(start: int = 14, text: str = "Two of them.") -> pb.SearchCollectionResponse:
    point = point_pb2.Point(id="d#1", document="collections/c/documents/d", text=text)
    point.span.CopyFrom(vector_pb2.TextSpan(start=start, end=start + len(text)))
    return pb.SearchCollectionResponse(hits=[pb.SearchHit(point=point)])


async def _added(
    response: pb.SearchCollectionResponse,
    store: _Store,
    collection: Collection = _COLLECTION,
    **asked: Any,
) -> pb.SearchHit:
    request = pb.SearchCollectionRequest(**{"include_parents": True, **asked})
    call = Call("default", "test")
    await parents.add(cast(Store, store), collection, [(request, response)], call)
    return response.hits[0]


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def parents_of(*_: Any) -> dict[str, Parent]:
        return {"d#1": Parent(Span(0, len(WHOLE)), WHOLE, None)}

    monkeypatch.setattr(parents, "parents_of", parents_of)


async def test_a_passage_that_stands_in_it_brings_it() -> None:
    hit = await _added(_response(), _Store())
    assert (hit.parent.text, hit.parent.span.end) == (WHOLE, len(WHOLE))


@pytest.mark.parametrize(("start", "text"), [(13, "Two of them."), (14, "Two of us."), (30, "ree")])
async def test_one_that_was_replaced_meanwhile_brings_nothing(start: int, text: str) -> None:
    assert not (await _added(_response(start, text), _Store())).HasField("parent")


@pytest.mark.parametrize("error", [StoreUnavailable("away"), DeadlineExceeded("slow")])
async def test_without_postgresql_hits_come_without_it(error: RagmeshError) -> None:
    store = _Store(error)
    assert not (await _added(_response(), store)).HasField("parent")
    assert store.opened == 1


async def test_postgresql_is_asked_only_where_there_is_something_to_bring() -> None:
    store = _Store()
    flat = cast(Collection, SimpleNamespace(chunk_strategy="structure"))
    assert not (await _added(_response(), store, flat)).HasField("parent")
    assert not (await _added(_response(), store, include_parents=False)).HasField("parent")
    assert not (await _added(_response(), store, ids_only=True)).HasField("parent")
    assert store.opened == 0
