"""Sparse vectors are stored as they came, and come back from the log."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DataLoss
from engine.index.sparse import prepare
from engine.types import SparseVector
from services.store import changes
from services.store.changes import Feed
from services.store.codec import pack_sparse, unpack_sparse
from services.store.points import PointRow, apply_batch
from services.store.store import Store
from tests.services.store.stored import make_collection

ENTRIES = st.dictionaries(
    st.integers(0, 2**32 - 1),
    st.floats(-(2.0**49), 2.0**49, width=32).filter(bool),
    min_size=1,
    max_size=30,
)


def vector(entries: dict[int, float]) -> SparseVector:
    values = np.array(list(entries.values()), np.float32)
    return prepare(np.array(list(entries), np.uint32), values, "sparse_vector")


def said(one: SparseVector | None) -> dict[int, float]:
    return {} if one is None else dict(zip(one.indices.tolist(), one.values.tolist(), strict=True))


@given(ENTRIES)
def test_what_is_packed_comes_back(entries: dict[int, float]) -> None:
    packed = pack_sparse(vector(entries))
    assert packed is not None and len(packed) == 8 * len(entries)
    assert said(unpack_sparse(packed)) == entries


@pytest.mark.parametrize("damaged", [b"", b"1234", b"123456789"])
def test_bytes_that_are_no_entries_are_said_to_be_damaged(damaged: bytes) -> None:
    with pytest.raises(DataLoss, match="sparse vector"):
        unpack_sparse(damaged)


async def test_the_log_has_the_last_one_of_each_point(store: Store) -> None:
    collection = await make_collection(store, "default", "papers")
    first, second = vector({7: 0.5, 2**32 - 1: -2.0}), vector({1: 1.0})
    async with store.transaction("default") as tx:
        await apply_batch(
            tx,
            collection,
            [PointRow(id=id, sparse_vector=first) for id in ("kept", "replaced", "emptied")],
        )
    async with store.transaction("default") as tx:
        later = [PointRow(id="replaced", sparse_vector=second), PointRow(id="emptied", text="x")]
        await apply_batch(tx, collection, later)
    found: dict[str, dict[int, float]] = {}
    async with changes.snapshot_scan(store, "default", collection.uid) as feed:
        assert isinstance(feed, Feed)
        async for page in feed.pages():
            found |= {one.point.id: said(one.point.sparse_vector) for one in page.upserts}
    assert found == {"kept": said(first), "replaced": said(second), "emptied": {}}
