"""Handlers of snapshots as files: check, call, translate, answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

from google.protobuf import json_format
from google.rpc import status_pb2
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import DataLoss, DeadlineExceeded, FingerprintMismatch, InvalidField
from engine.index.archive import Head
from services.retrieval import checks, convert
from services.retrieval.index.archives import PIECE_WAIT_S
from services.retrieval.servicer.base import Handlers
from services.retrieval.servicer.collections import first_seq, new_spec
from services.rpc import fields, names
from services.rpc.call import Call
from services.rpc.events import told
from services.rpc.pieces import next_piece
from services.store import collections as rows
from services.store import snapshots as kept
from services.store.collections import Collection, CollectionSpec
from services.store.once import answered, once
from services.store.snapshots import Snapshot
from services.store.store import Tx

FINGERPRINT_CHARACTERS_MAX = 256
_VALUE_BYTES = {"float32": 4, "float16": 2, "int8": 3}


class ArchiveHandlers(Handlers):
    """Gives snapshots out as files, and makes collections of them."""

    def ExportSnapshot(
        self, request: pb.ExportSnapshotRequest, call: Call
    ) -> AsyncGenerator[pb.ExportSnapshotResponse, None]:
        """Gives a snapshot's file as events."""
        return told(self._exported(request, call), call, _failed)

    async def ImportSnapshot(
        self, requests: AsyncIterator[pb.ImportSnapshotRequest], call: Call
    ) -> pb.ImportSnapshotResponse:
        """Makes a collection of a file that comes in pieces."""
        first = await _next(requests, call)
        if first is None or first.WhichOneof("piece") != "header":
            raise InvalidField("An import begins with its header.", field="header")
        header, spec, payload = first.header, None, b""
        async with self._index.archives.taken() as taken:
            while (request := await _next(requests, call)) is not None:
                if request.WhichOneof("piece") != "data":
                    raise InvalidField("An import has one header.", field="header")
                await taken.take(request.data)
                if spec is None and taken.head is not None:
                    # Looked at before the rest comes: it may be much.
                    payload = header.SerializeToString(deterministic=True)
                    payload += taken.unpacker.head_sha256
                    before = await answered(
                        self._store,
                        call.tenant,
                        header.request_id,
                        first,
                        pb.ImportSnapshotResponse,
                        payload,
                        timeout_s=call.remaining_s(),
                    )
                    if before is not None:
                        return before
                    spec = await self._accepted(header, taken.head, call)
            taken.unpacker.finish()
            assert spec is not None
            accepted, points_said = spec, _points(taken.unpacker.head)

            async def write(tx: Tx) -> pb.ImportSnapshotResponse:
                target = header.collection_id or names.new_id()
                seq, points = await self._index.archives.made(
                    tx, taken, target, accepted, first_seq(), points_said
                )
                if points > points_said:
                    raise _wrong(f"it says that it holds {points_said:,} points, and holds more")
                if points != points_said:
                    raise _wrong(f"it says that it holds {points_said:,} points, not {points:,}")
                row = await rows.get_collection(tx, target)
                return pb.ImportSnapshotResponse(
                    collection=convert.collection_message(row), points=points, watermark=str(seq)
                )

            response = await once(
                self._store,
                call.tenant,
                header.request_id,
                first,
                pb.ImportSnapshotResponse,
                write,
                timeout_s=call.remaining_s(),
                payload=payload,
            )
        self._indexes.nudge()
        return response

    async def _exported(
        self, request: pb.ExportSnapshotRequest, call: Call
    ) -> AsyncGenerator[pb.ExportSnapshotResponse, None]:
        collection_id, snapshot_id = names.snapshot_ids(request.name)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection = await rows.get_collection(tx, collection_id)
            snapshot = await kept.get_snapshot(tx, collection, snapshot_id)
        about = _about(collection, snapshot)
        async with self._index.archives.given(snapshot, about) as (head, source), aclosing(source):
            if request.offset_bytes > head.size_bytes:
                raise InvalidField(
                    f"offset_bytes is {request.offset_bytes:,}, and the file has "
                    f"{head.size_bytes:,}. Begin at 0.",
                    field="offset_bytes",
                    metadata={"value": request.offset_bytes, "size_bytes": head.size_bytes},
                )
            started = pb.ExportStarted(
                snapshot=convert.snapshot_message(snapshot, collection_id),
                size_bytes=head.size_bytes,
            )
            yield pb.ExportSnapshotResponse(started=started)
            loop, hashed, at = asyncio.get_running_loop(), hashlib.sha256(), 0
            async for piece in source:
                await loop.run_in_executor(self._threads, hashed.update, piece)
                wanted = piece[max(0, request.offset_bytes - at) :]
                at += len(piece)
                if wanted:
                    yield pb.ExportSnapshotResponse(data=wanted)
            finished = pb.ExportFinished(content_sha256=hashed.hexdigest())
            yield pb.ExportSnapshotResponse(finished=finished)

    async def _accepted(self, header: pb.ImportHeader, head: Head, call: Call) -> CollectionSpec:
        """What the collection is made with. Raises what CreateCollection does, FingerprintMismatch,
        LimitReached and IndexMemoryFull."""
        asked = collection_pb2.Collection()
        try:
            said = head.about["collection"]
            if not isinstance(said, dict):
                raise TypeError("it is no object")
            json_format.ParseDict(said, asked, ignore_unknown_fields=True)
            _require_known(said)
        except (json_format.ParseError, KeyError, TypeError, ValueError, RecursionError) as error:
            why = str(error).rstrip(".")
            raise _wrong(f"what it says of its collection cannot be read: {why}") from error
        if not asked.embedding_model and not asked.dimensions:
            raise _wrong("it says neither a model nor the dimensions of its vectors")
        if header.HasField("limits"):
            asked.limits.CopyFrom(header.limits)
        checks.CHECKS[pb.CreateCollectionRequest](pb.CreateCollectionRequest(collection=asked))
        spec = await new_spec(self._core, asked, call)
        if not asked.embedding_model:
            fields.characters(
                asked.fingerprint, "collection.fingerprint", FINGERPRINT_CHARACTERS_MAX
            )
            fields.storable(asked.fingerprint, "collection.fingerprint")
            spec = replace(spec, fingerprint=asked.fingerprint)
        elif asked.fingerprint != spec.fingerprint:
            raise FingerprintMismatch(
                f"The file's vectors come from {asked.fingerprint}, and {spec.embedding_model} is "
                f"{spec.fingerprint} here. Serve the same model with the same settings, or ingest "
                "the documents anew.",
                field="collection.fingerprint",
                metadata={"fingerprint": asked.fingerprint, "model_fingerprint": spec.fingerprint},
            )
        points = _points(head)
        memory_bytes = points * spec.dimensions * _VALUE_BYTES[spec.vector_storage]
        self._limiter.brought(spec, points, head.contents_bytes, memory_bytes)
        return spec


def _require_known(said: Mapping[str, Any]) -> None:
    """Raises ValueError for a name that this version does not know, which is not a setting to be
    left out: without it vectors would be compared or kept in another way than they were."""
    for field in collection_pb2.Collection.DESCRIPTOR.fields:
        value = said.get(field.json_name)
        if (
            isinstance(value, str)
            and field.enum_type
            and value not in (field.enum_type.values_by_name)
        ):
            raise ValueError(f"{field.json_name} is {value[:80]!r}, which is not known here")


def _about(collection: Collection, snapshot: Snapshot) -> dict[str, Any]:
    """What a file says of its snapshot: the same each time."""
    message = convert.collection_message(replace(collection, **asdict(snapshot.spec)))
    for name in ("name", "create_time", "update_time"):
        message.ClearField(name)
    described = convert.snapshot_message(snapshot, collection.id)
    return {
        "collection": json_format.MessageToDict(message),
        "snapshot": json_format.MessageToDict(described),
        "points": snapshot.points,
    }


def _points(head: Head | None) -> int:
    points = None if head is None else head.about.get("points")
    if type(points) is not int or not 0 <= points <= checks.STORED_MAX:
        raise _wrong("it does not say how many points it holds")
    return points


async def _next(
    requests: AsyncIterator[pb.ImportSnapshotRequest], call: Call
) -> pb.ImportSnapshotRequest | None:
    try:
        async with asyncio.timeout(PIECE_WAIT_S):
            return await next_piece(requests, call)
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"No piece of the file came for {PIECE_WAIT_S:g} s. Nothing was made. Send it again.",
            metadata={"wait_s": PIECE_WAIT_S},
        ) from error


def _wrong(why: str) -> DataLoss:
    return DataLoss(f"The file cannot be imported: {why}. Nothing was made. Export it again.")


def _failed(status: status_pb2.Status) -> pb.ExportSnapshotResponse:
    return pb.ExportSnapshotResponse(failed=status)
