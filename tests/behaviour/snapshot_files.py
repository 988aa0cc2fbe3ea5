"""Files of snapshots, written without a mesh, and the messages that send them."""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.index import CollectionIndex, IndexSettings
from engine.index.archive import OPENING, Head, Packed, pieces
from engine.index.snapshot import write_snapshot
from engine.types import Point
from tests.behaviour.given import upload_pieces, vectors

DIMENSIONS = 8


def snapshot_file(
    points: int = 3, *, about: dict[str, Any] | None = None, **collection: Any
) -> bytes:
    """A file with some points of no segment; `about` replaces what it says of itself, `collection`
    adds to what it says of its collection, in JSON's names."""
    index = CollectionIndex(IndexSettings(DIMENSIONS))
    rows = vectors(points)
    written_points = [Point(f"p{n}", row, f"text {n}", {"n": n}) for n, row in enumerate(rows)]
    index.apply(written_points, [], 1, "a")
    said = {"collection": {"dimensions": DIMENSIONS, **collection}, "points": points}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        written = write_snapshot(index.view, folder / "own")
        written.path.rename(folder / written.sha256)
        head = Head(about or said, [Packed(written.sha256, written.size_bytes, True)])
        return b"".join(pieces(head, folder))


def file_of_head(head: dict[str, Any]) -> bytes:
    """A file that ends after its head, which is vouched for, whatever it says."""
    text = json.dumps(head).encode()
    return struct.pack("<8sQ32s", OPENING, len(text), hashlib.sha256(text).digest()) + text


def import_pieces(
    data: bytes, size: int = 1 << 20, **header: Any
) -> tuple[pb.ImportSnapshotRequest, ...]:
    """All messages of an import."""
    sent = [data[start : start + size] for start in range(0, len(data), size)]
    return (
        pb.ImportSnapshotRequest(header=pb.ImportHeader(**header)),
        *(pb.ImportSnapshotRequest(data=piece) for piece in sent),
    )


def following(rpc: str, data: bytes) -> list[Message]:
    """What follows the first message of a client stream, where `data` is what a document has."""
    if rpc == "ImportSnapshot":
        return list(import_pieces(snapshot_file())[1:])
    return upload_pieces(data)
