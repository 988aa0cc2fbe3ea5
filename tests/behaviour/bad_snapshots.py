"""Bad requests about compaction and snapshots."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.bad_requests import Bad, Table, World, identified, named, paged
from tests.behaviour.snapshot_files import file_of_head, import_pieces, snapshot_file

ABSENT = "collections/absent"


def _compact(world: World) -> Iterator[Bad]:
    make = partial(pb.CompactCollectionRequest, collection=world.vectors)
    yield from named(lambda n: pb.CompactCollectionRequest(collection=n), "collections/{}")
    absent = pb.CompactCollectionRequest(collection=ABSENT)
    yield Bad("collection unknown", absent, "COLLECTION_NOT_FOUND")
    yield Bad("queries below zero", make(queries=-1))
    yield Bad("queries over 1,000", make(queries=1_001))


def _create(world: World) -> Iterator[Bad]:
    make = partial(pb.CreateSnapshotRequest, parent=world.vectors)
    yield from named(lambda n: pb.CreateSnapshotRequest(parent=n), "collections/{}")
    yield from identified(make)
    absent = pb.CreateSnapshotRequest(parent=ABSENT)
    yield Bad("collection unknown", absent, "COLLECTION_NOT_FOUND")
    yield Bad("snapshot_id with capitals", make(snapshot_id="UPPER"))
    yield Bad("snapshot_id too long", make(snapshot_id="x" * 64))
    taken = make(snapshot_id=world.snapshot.rpartition("/")[2])
    yield Bad("id taken", taken, "SNAPSHOT_EXISTS")


def _named(kind: type[Any], world: World) -> Iterator[Bad]:
    yield from named(lambda name: kind(name=name), world.vectors + "/snapshots/{}")
    elsewhere = kind(name=f"{ABSENT}/snapshots/monday")
    yield Bad("collection unknown", elsewhere, "COLLECTION_NOT_FOUND")
    absent = kind(name=f"{world.vectors}/snapshots/absent")
    yield Bad("snapshot unknown", absent, "SNAPSHOT_NOT_FOUND")


def _list(world: World) -> Iterator[Bad]:
    yield from named(lambda n: pb.ListSnapshotsRequest(parent=n), "collections/{}")
    yield from paged(partial(pb.ListSnapshotsRequest, parent=world.vectors))
    absent = pb.ListSnapshotsRequest(parent=ABSENT)
    yield Bad("collection unknown", absent, "COLLECTION_NOT_FOUND")


def _restore(world: World) -> Iterator[Bad]:
    make = partial(pb.RestoreSnapshotRequest, name=world.snapshot)
    yield from _named(pb.RestoreSnapshotRequest, world)
    yield from identified(make)
    yield Bad("collection_id with capitals", make(collection_id="UPPER"))
    yield Bad("collection_id too long", make(collection_id="x" * 64))
    taken = make(collection_id=world.texts.partition("/")[2], request_id=str(uuid.uuid4()))
    yield Bad("id taken", taken, "COLLECTION_EXISTS")
    limits = collection_pb2.CollectionLimits(points_max=-1)
    yield Bad("limits below zero", make(limits=limits))
    limits = collection_pb2.CollectionLimits(limit_max=1_001)
    yield Bad("limits over the contract's", make(limits=limits))


def _export(world: World) -> Iterator[Bad]:
    yield from _named(pb.ExportSnapshotRequest, world)
    make = partial(pb.ExportSnapshotRequest, name=world.snapshot)
    yield Bad("offset below zero", make(offset_bytes=-1))
    yield Bad("offset beyond the file", make(offset_bytes=1 << 40))


def _import(world: World) -> Iterator[Bad]:
    file, make = snapshot_file(), partial(import_pieces, snapshot_file())
    said = {"collection": {"dimensions": 8}}
    yield Bad("request_id no UUID", make(request_id="again"))
    yield Bad("collection_id with capitals", make(collection_id="UPPER"))
    yield Bad("limits below zero", make(limits=collection_pb2.CollectionLimits(points_max=-1)))
    taken = make(collection_id=world.texts.partition("/")[2])
    yield Bad("id taken", taken, "COLLECTION_EXISTS")
    header, data = make()
    yield Bad("no header", (data,))
    yield Bad("two headers", (header, header, data))
    yield Bad("a piece of neither", (header, pb.ImportSnapshotRequest()))
    yield Bad("a piece too large", (header, pb.ImportSnapshotRequest(data=bytes((1 << 20) + 1))))
    for what, harmed in (
        ("nothing", b""),
        ("another file", b"%PDF-1.7 and so on, a while"),
        ("a cut file", file[:-1]),
        ("a file with more after it", file + b"\0"),
        ("a flipped bit", bytes([*file[:2_000], file[2_000] ^ 1, *file[2_001:]])),
        ("no collection", snapshot_file(about={"points": 3})),
        ("a collection that is none", snapshot_file(about={"points": 3, "collection": [1]})),
        ("a collection that is text", snapshot_file(about={"points": 3, "collection": "x"})),
        ("no points said", snapshot_file(about=said)),
        ("more points said than there are", snapshot_file(about={**said, "points": 4})),
        ("fewer points said than there are", snapshot_file(about={**said, "points": 2})),
        ("more points said than can be", snapshot_file(about={**said, "points": 10**4_000})),
        ("other dimensions", snapshot_file(dimensions=9)),
        ("a metric of another time", snapshot_file(metric="METRIC_HAMMING")),
        ("a format as long as a book", file_of_head({"format": "x" * 1_000_000})),
    ):
        yield Bad(what, import_pieces(harmed), "DATA_CORRUPTED")
    for what, harmed in (
        ("settings that cannot be", snapshot_file(hnsw={"m": 101})),
        ("a fingerprint as long as a book", snapshot_file(fingerprint="x" * 1_000_000)),
        ("a fingerprint that cannot be stored", snapshot_file(fingerprint="\0")),
    ):
        yield Bad(what, import_pieces(harmed))
    absent = snapshot_file(embeddingModel="embeddingModels/absent")
    yield Bad("a model unknown", import_pieces(absent), "EMBEDDING_MODEL_NOT_FOUND")
    other = snapshot_file(embeddingModel="embeddingModels/default", dimensions=0, fingerprint="x")
    yield Bad("another model", import_pieces(other), "FINGERPRINT_MISMATCH")
    full = make(limits=collection_pb2.CollectionLimits(points_max=2))
    yield Bad("over its limit", full, "LIMIT_REACHED")


TABLE: Table = {
    "CompactCollection": _compact,
    "CreateSnapshot": _create,
    "GetSnapshot": partial(_named, pb.GetSnapshotRequest),
    "ListSnapshots": _list,
    "DeleteSnapshot": partial(_named, pb.DeleteSnapshotRequest),
    "RestoreSnapshot": _restore,
    "ExportSnapshot": _export,
    "ImportSnapshot": _import,
}
