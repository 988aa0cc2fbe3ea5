"""Requests of the retrieval service as bytes, made before the clock starts; and files of them."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import struct_pb2
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from benchmarks.data import Matrix

M, EF_CONSTRUCTION, EF, K = 16, 100, 64, 10
"""The defaults of a collection, given to peers as well."""
SEARCH_EF = 144
"""The beam of the suite `search`, for all sides: with 128 some find 0.995 of the ten nearest in one
run and 0.994 in the next, as the order goes in which points come into their graphs."""
SERVICE = "/ragmesh.api.retrieval.v1.RetrievalService"
SEARCH = f"{SERVICE}/SearchCollection"
BATCH_SEARCH = f"{SERVICE}/BatchSearchCollection"
UPSERT = f"{SERVICE}/UpsertPoints"

_LENGTH_BYTES = 4


def search_request(
    collection: str, vector: Any, *, ids_only: bool = False
) -> pb.SearchCollectionRequest:
    """The 10 nearest of a row of float32."""
    return pb.SearchCollectionRequest(
        collection=f"collections/{collection}",
        vector=vector_pb2.Vector(packed=vector.tobytes()),
        limit=K,
        ids_only=ids_only,
    )


def batch_searches(
    collection: str, queries: Matrix, size: int, *, ids_only: bool = True
) -> list[bytes] | None:
    """Requests of BatchSearchCollection with `size` queries each; None where the contract has no
    such RPC."""
    kind: Any = getattr(pb, "BatchSearchCollectionRequest", None)
    if kind is None:
        return None
    found: list[bytes] = []
    for start in range(0, len(queries) - size + 1, size):
        searches = [
            search_request(collection, row, ids_only=ids_only)
            for row in queries[start : start + size]
        ]
        for one in searches:
            one.ClearField("collection")  # the batch names it
        request = kind(collection=f"collections/{collection}", searches=searches)
        found.append(request.SerializeToString())
    return found


def upserts(
    collection: str,
    vectors: Matrix,
    *,
    batch: int = 500,
    first_id: int = 0,
    payload_bytes: int = 0,
) -> Iterator[bytes]:
    """Upserts of rows, whose ids are numbers from `first_id` on."""
    for start in range(0, len(vectors), batch):
        rows = vectors[start : start + batch]
        points = [
            point_pb2.Point(
                id=str(first_id + start + n),
                vector=vector_pb2.Vector(packed=row.tobytes()),
                payload=_struct(payload(first_id + start + n, payload_bytes))
                if payload_bytes
                else None,
            )
            for n, row in enumerate(rows)
        ]
        yield pb.UpsertPointsRequest(
            collection=f"collections/{collection}", points=points
        ).SerializeToString()


def payload(number: int, size: int) -> dict[str, Any]:
    """A payload of `size` bytes as JSON, such as documents carry: a few short fields to filter by
    and a text. Raises ValueError under 120 bytes."""
    fields = {
        "number": number,
        "year": 1990 + number % 35,
        "language": ("en", "de", "fr", "es")[number % 4],
        "source": f"archive-{number % 100}",
        "text": "",
    }
    rest = size - len(json.dumps(fields, separators=(",", ":")))
    if rest < 0:
        raise ValueError(f"a payload has 120 bytes or more, and {size} were asked for")
    words = f"passage {number} of the archive, "
    fields["text"] = (words * (rest // len(words) + 1))[:rest]
    return fields


def write(file: Path, requests: Iterable[bytes]) -> int:
    """Requests one after the other, each after its length; returns how many."""
    count = 0
    with file.open("wb") as out:
        for request in requests:
            out.write(len(request).to_bytes(_LENGTH_BYTES, "little"))
            out.write(request)
            count += 1
    return count


def read(file: Path) -> Sequence[memoryview]:
    """The requests of a file, mapped, not copied."""
    if not file.stat().st_size:
        return []
    with file.open("rb") as source:
        data = memoryview(mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ))
    found, at = [], 0
    while at < len(data):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin], "little")
        found.append(data[begin:at])
    return found


def _struct(fields: Mapping[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(fields)
    return struct
