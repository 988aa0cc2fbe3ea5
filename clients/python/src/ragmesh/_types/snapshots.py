"""Values of compaction and snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ragmesh._types.retrieval import Collection


@dataclass(frozen=True, slots=True)
class IndexFootprint:
    """What a collection takes on one node: its `segments`, their files, what of them and of the
    write buffer may be in memory, and what the whole node has in memory as its kernel says."""

    segments: int
    disk_kib: int
    index_kib: int
    resident_kib: int


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction gave back.

    `recall_before` and `recall_after` are the shares of the ten nearest points that searches find,
    of `queries` queries. Where `rolled_back`, what was built was thrown away; `reason` says why.
    """

    before: IndexFootprint
    after: IndexFootprint
    points: int
    tombstones_removed: int
    rolled_back: bool
    reason: str
    queries: int
    recall_before: float
    recall_after: float
    compact_ms: float
    watermark: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A collection as it was at the commit `watermark`. It goes with its collection."""

    name: str
    watermark: str
    points: int
    size_kib: int
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class Restored:
    """A collection that was made of a snapshot, with `points` points at the commit `watermark`."""

    collection: Collection
    points: int
    watermark: str


@dataclass(frozen=True, slots=True)
class SnapshotPiece:
    """The next bytes of a snapshot's file, which begin at `offset_bytes` of `size_bytes`.

    The first piece has no data and names the `snapshot`; the last has none either and says the
    whole file's `content_sha256`, in hexadecimal digits.
    """

    data: bytes
    offset_bytes: int
    size_bytes: int
    snapshot: Snapshot
    content_sha256: str = ""
