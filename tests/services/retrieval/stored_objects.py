"""What the tests of segments' files act with: files, names, and a collection that names them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from services.objects.seam import ObjectStore
from services.store.changes import Feed, snapshot_scan
from services.store.collections import Collection
from services.store.points import apply_batch
from services.store.segments import NewSegment, Published, publish
from services.store.store import Store
from tests.services.store.stored import point


def make_file(directory: Path, data: bytes, name: str = "built") -> tuple[str, Path]:
    """A file and the name that its bytes give it."""
    path = directory / name
    path.unlink(missing_ok=True)  # what was put may be the same file under another name
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest(), path


async def seal(
    store: Store, collection: Collection, objects: ObjectStore, name: str, *retired: str
) -> Published:
    """Write a point and adopt the object `name` as the segment that has it."""
    async with store.transaction(collection.tenant) as tx:
        commit = await apply_batch(tx, collection, [point(name)])
    async with snapshot_scan(store, collection.tenant, collection.uid) as feed:
        assert isinstance(feed, Feed)
        sealed_from = feed.sealed_seq
    async with store.transaction(collection.tenant) as tx:
        return await publish(
            tx,
            collection,
            [NewSegment(bytes.fromhex(name), 1, 1, "seal")],
            [bytes.fromhex(old) for old in retired],
            sealed_from=sealed_from,
            sealed_seq=commit.seq,
            exists=objects.exists,
        )
