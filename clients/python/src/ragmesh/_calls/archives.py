"""Calls of the retrieval service about snapshots as files."""

from __future__ import annotations

import hashlib

from ragmesh import _rpcs as rpcs
from ragmesh import _status
from ragmesh._convert import snapshots as convert
from ragmesh._convert.retrieval import to_limits
from ragmesh._errors import DataCorrupted
from ragmesh._names import plain_id
from ragmesh._names import snapshot as snapshot_name
from ragmesh._plan import Plan, Source, send
from ragmesh._session import Session, write_id
from ragmesh._types import snapshots as types
from ragmesh._types.retrieval import CollectionLimits
from ragmesh._upload import ImportFeed, UploadSource, prepare
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

# A large file on a slow line; the limit of a call without it is the client's own.
TRANSFER_TIMEOUT_S = 3_600.0


class _Export:
    """What came of an export. One from its beginning is compared with what the server gave."""

    def __init__(self, offset_bytes: int) -> None:
        self._at, self._whole = offset_bytes, offset_bytes == 0
        self._size_bytes = 0
        self._hashed = hashlib.sha256()
        self._snapshot = types.Snapshot("", "", 0, 0, None)

    def read(self, message: pb.ExportSnapshotResponse) -> types.SnapshotPiece | None:
        match message.WhichOneof("event"):
            case "started":
                self._size_bytes = message.started.size_bytes
                self._snapshot = convert.snapshot(message.started.snapshot)
                return self._piece(b"")
            case "data":
                if self._whole:
                    self._hashed.update(message.data)
                return self._piece(message.data)
            case "finished":
                said = message.finished.content_sha256
                if self._whole and self._hashed.hexdigest() != said:
                    raise DataCorrupted(
                        "What came of the snapshot is not what the server gave. Export it again.",
                        metadata={"sha256": self._hashed.hexdigest(), "content_sha256": said},
                    )
                return self._piece(b"", said)
            case "failed":
                raise _status.from_status(message.failed)
            case _:  # an event of a newer server
                return None

    def _piece(self, data: bytes, content_sha256: str = "") -> types.SnapshotPiece:
        offset_bytes = self._at
        self._at += len(data)
        return types.SnapshotPiece(
            data, offset_bytes, self._size_bytes, self._snapshot, content_sha256
        )


def export_snapshot(
    session: Session,
    name: str,
    *,
    collection: str | None = None,
    offset_bytes: int = 0,
    timeout_s: float | None = TRANSFER_TIMEOUT_S,
) -> Source[types.SnapshotPiece]:
    """Gives a snapshot as one file, piece by piece, for `import_snapshot` here or elsewhere.

        with open("papers.snapshot", "wb") as file:
            for piece in client.export_snapshot("collections/papers/snapshots/monday"):
                file.write(piece.data)

    The file is whole once the stream has ended without an error: the last piece has its
    `content_sha256`, and what came was compared with it unless it began later. The same snapshot
    gives the same bytes, so a copy that broke off goes on with `offset_bytes`. Raises
    SnapshotNotFound, DataCorrupted, QueueFull, or StreamCut if it ends early.
    """
    return Source(
        session,
        rpcs.EXPORT_SNAPSHOT,
        pb.ExportSnapshotRequest(name=snapshot_name(name, collection), offset_bytes=offset_bytes),
        read=_Export(offset_bytes).read,
        is_last=lambda piece: bool(piece.content_sha256),
        timeout_s=timeout_s,
    )


def import_snapshot(
    session: Session,
    source: UploadSource,
    collection_id: str = "",
    *,
    limits: CollectionLimits | None = None,
    request_id: str | None = None,
    timeout_s: float | None = TRANSFER_TIMEOUT_S,
) -> Plan[types.Restored]:
    """Makes a new collection of a snapshot's file, all of it or nothing.

    `source` is a path, bytes or a binary file object, read from where it stands. `limits` replaces
    what the snapshot's collection could be asked for. Points come as they were, with their vectors;
    their graphs are built anew, and passages of documents come back as plain points. Raises
    DataCorrupted for a file that is cut or changed, CollectionExists, EmbeddingModelNotFound,
    FingerprintMismatch where the model is another here, RequestIdReused; for want of room
    LimitReached, IndexMemoryFull or QueueFull; and OSError if the file cannot be read.
    """
    upload = prepare(source, bounded=False)
    header = pb.ImportHeader(
        collection_id=plain_id("collections", collection_id, "collection_id"),
        limits=to_limits(limits),
        request_id=write_id(request_id),
    )
    response = yield from send(
        session,
        rpcs.IMPORT_SNAPSHOT,
        ImportFeed(header, upload),
        timeout_s=timeout_s,
        repeatable=upload.repeatable,
    )
    session.forget(response.collection.name)
    return convert.restored(response)
