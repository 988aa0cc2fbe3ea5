"""The only way that points are written (D3).

Why commit order equals number order: `apply_batch` locks the collection's counter row, and the
lock ends with the transaction. Whoever comes second waits until the first has committed, and only
then is the statement started that raises the counter and writes the rows. That second statement is
needed: under READ COMMITTED a statement keeps the view it had before it waited, so a DELETE in the
waiting statement itself would miss rows that the first writer had just inserted.

Why two batches cannot deadlock: rows of a collection's points are only written under that lock.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import DimensionMismatch, InvalidField
from engine.index.written import WrittenPayload
from engine.types import Payload, Sentences, SparseVector, TokenVectors, Vector
from services.store.arrays import ByteaArray, TextArray, no_bytes, no_texts, zeros
from services.store.codec import pack_sentences, pack_sparse, pack_tokens, pack_vector
from services.store.collections import Collection, collection_not_found
from services.store.store import Closed, Tx

ID_CHARACTERS_MAX = 256


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a collection's log, or an index of it, has come: a commit's number and random id."""

    seq: int
    change_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Commit(Watermark):
    """What a batch did. With nothing to do there is no new commit and it names the present one.
    `after` is the random id of the commit before it."""

    upserted: int
    deleted: int
    after: uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRow:
    """A point to write: with values of its own, or naming a passage that has them.

    A passage's point sets `document`, `passage_index` and `passage_set_key`, and no `text`: it is
    read from the passage, and so are `vector`, `sentences` and `token_vectors` unless it brings
    its own, of another model.
    """

    id: str
    vector: Vector | None = None
    text: str = ""
    payload: Payload = field(default_factory=dict)
    sentences: Sentences | None = None
    document: str | None = None
    passage_index: int = 0
    passage_set_key: bytes | None = None
    token_vectors: TokenVectors | None = None
    sparse_vector: SparseVector | None = None


_LOCK = (
    "SELECT seq, change_id, closed_until > clock_timestamp(), closed_until = 'infinity' "
    "FROM heads "
    "WHERE tenant = %(tenant)s AND collection_uid = %(uid)s FOR NO KEY UPDATE"
)
_APPLY = """
WITH incoming AS (
    SELECT * FROM unnest(
        %(ids)b::text[], %(vectors)b::bytea[], %(texts)b::text[], %(payloads)b::text[],
        %(sentences)b::bytea[], %(documents)b::text[], %(indexes)b::int[], %(keys)b::bytea[],
        %(tokens)b::bytea[], %(sparse)b::bytea[]
    ) AS t (id, vector, text, payload, sentences, document, passage_index, passage_set_key, tokens,
        sparse)
), doomed AS MATERIALIZED (
    SELECT id FROM points
    WHERE tenant = %(tenant)s AND collection_uid = %(uid)s AND id = ANY(%(deletes)s::text[])
        AND seq <= coalesce(%(unchanged_since)s::bigint, seq)
), head AS (
    UPDATE heads SET seq = seq + 1, change_id = gen_random_uuid()
    WHERE tenant = %(tenant)s AND collection_uid = %(uid)s
        AND (%(count)s::int > 0 OR EXISTS (SELECT FROM doomed))
    RETURNING seq, change_id
), logged AS (
    INSERT INTO commits (tenant, collection_uid, seq, change_id, commit_time)
    SELECT %(tenant)s, %(uid)s, seq, change_id, clock_timestamp() FROM head
), written AS (
    INSERT INTO points (tenant, collection_uid, id, seq, vector, text, payload, sentences,
        document, passage_index, passage_set_key, token_vectors, sparse_vector)
    SELECT %(tenant)s, %(uid)s, i.id, head.seq, i.vector, i.text, i.payload::json, i.sentences,
        i.document, i.passage_index, i.passage_set_key, i.tokens, i.sparse
    FROM incoming i, head
    ON CONFLICT (tenant, collection_uid, id) DO UPDATE SET
        seq = excluded.seq, vector = excluded.vector, text = excluded.text,
        payload = excluded.payload, sentences = excluded.sentences, document = excluded.document,
        passage_index = excluded.passage_index, passage_set_key = excluded.passage_set_key,
        token_vectors = excluded.token_vectors, sparse_vector = excluded.sparse_vector
), gone AS (
    DELETE FROM points
    WHERE tenant = %(tenant)s AND collection_uid = %(uid)s
        AND id = ANY(ARRAY(SELECT id FROM doomed))
    RETURNING id
), buried AS (
    INSERT INTO tombstones (tenant, collection_uid, id, seq)
    SELECT %(tenant)s, %(uid)s, gone.id, head.seq FROM gone, head
), risen AS (
    DELETE FROM tombstones
    WHERE tenant = %(tenant)s AND collection_uid = %(uid)s AND id = ANY(%(ids)b::text[])
)
SELECT seq, change_id, (SELECT count(*) FROM gone) FROM head
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit writes and deletes, as PostgreSQL takes it; see `prepared_batch`."""

    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlainPoints:
    """Points with an id, a vector, a text and a payload, as columns: their ids ascend, as UTF-8,
    and each is once. Checked; the vectors have the collection's dimensions."""

    ids: TextArray
    vectors: ByteaArray
    texts: TextArray
    payloads: TextArray
    count: int


def plain_batch(collection: Collection, points: PlainPoints) -> Batch:
    """As `prepared_batch` makes it, without looking at each point."""
    count = points.count
    return Batch(
        {
            "tenant": collection.tenant,
            "uid": collection.uid,
            "ids": points.ids,
            "vectors": points.vectors,
            "texts": points.texts,
            "payloads": points.payloads,
            "sentences": no_bytes(count),
            "documents": no_texts(count),
            "indexes": zeros(count),
            "keys": no_bytes(count),
            "tokens": no_bytes(count),
            "sparse": no_bytes(count),
            "count": count,
            "deletes": [],
            "unchanged_since": None,
        }
    )


def prepared_batch(
    collection: Collection,
    upserts: Sequence[PointRow] = (),
    deletes: Sequence[str] = (),
    *,
    unchanged_since: int | None = None,
) -> Batch:
    """A batch ready to be written. Takes about 10 µs a point; needs no database.

    Of an id that is given twice, the last counts; one that is both written and deleted is refused.
    With `unchanged_since`, only points that no later commit wrote are deleted. Raises
    DimensionMismatch and InvalidField.
    """
    rows = sorted({row.id: row for row in upserts}.values(), key=lambda row: row.id.encode())
    _check(collection, rows, deletes)
    params: dict[str, Any] = {
        "tenant": collection.tenant,
        "uid": collection.uid,
        "ids": [row.id for row in rows],
        "vectors": [pack_vector(row.vector) for row in rows],
        "texts": [row.text for row in rows],
        "payloads": [_json(row.payload, row.id) for row in rows],
        "sentences": [pack_sentences(row.sentences) for row in rows],
        "documents": [row.document for row in rows],
        "indexes": [row.passage_index for row in rows],
        "keys": [row.passage_set_key for row in rows],
        "tokens": [pack_tokens(row.token_vectors) for row in rows],
        "sparse": [pack_sparse(row.sparse_vector) for row in rows],
        "count": len(rows),
        "deletes": sorted(set(deletes)),
        "unchanged_since": unchanged_since,
    }
    return Batch(params)


async def apply_batch(
    tx: Tx,
    collection: Collection,
    upserts: Sequence[PointRow] = (),
    deletes: Sequence[str] = (),
    *,
    unchanged_since: int | None = None,
    batch: Batch | None = None,
) -> Commit:
    """Write and delete points as one commit. The last thing a transaction does, and once.

    As `prepared_batch` says, or the `batch` that it made. Raises what it does, CollectionNotFound
    where the collection was deleted, or its migration flipped, meanwhile, and Closed, which
    `Store.run` waits out.
    """
    if batch is None:
        batch = prepared_batch(collection, upserts, deletes, unchanged_since=unchanged_since)
    params = batch.params
    async with tx.connection.pipeline():
        lock = await tx.connection.execute(_LOCK, params, binary=True)
        apply = await tx.connection.execute(_APPLY, params, binary=True)
        present = await lock.fetchone()
        made = await apply.fetchone()
    if present is None or (present[3] and not collection.hidden):
        # Gone, or the name leads to another index by now.
        raise collection_not_found(collection.id)
    if present[2] and not collection.hidden:
        raise Closed(collection.id)
    if made is None:
        return Commit(present[0], present[1], 0, 0, present[1])
    return Commit(made[0], made[1], params["count"], made[2], present[1])


async def document_point_ids(tx: Tx, collection: Collection, document: str) -> list[str]:
    """Ids of the points that are passages of a document, by passage."""
    rows = await tx.rows(
        "SELECT id FROM points WHERE tenant = %s AND collection_uid = %s AND document = %s "
        "ORDER BY passage_index",
        (collection.tenant, collection.uid, document),
    )
    return [row[0] for row in rows]


async def count_points(tx: Tx, collection: Collection) -> int:
    """Points in the table; reads the whole index of the collection."""
    row = await tx.row(
        "SELECT count(*) FROM points WHERE tenant = %s AND collection_uid = %s",
        (collection.tenant, collection.uid),
    )
    return int(row[0]) if row else 0


def _check(collection: Collection, rows: Sequence[PointRow], deletes: Sequence[str]) -> None:
    twice = {row.id for row in rows}.intersection(deletes)
    if twice:
        raise InvalidField(
            f"point {min(twice)!r} is both written and deleted in one batch; send two batches",
            metadata={"id": min(twice)},
        )
    for row in rows:
        if not 1 <= len(row.id) <= ID_CHARACTERS_MAX:
            raise InvalidField(
                f"a point's id has {len(row.id)} characters; 1 to {ID_CHARACTERS_MAX} are possible",
                metadata={"characters": len(row.id), "characters_max": ID_CHARACTERS_MAX},
            )
        if row.vector is not None and row.vector.shape != (collection.dimensions,):
            given = row.vector.shape[-1] if row.vector.ndim else 0
            raise DimensionMismatch(
                f"the vector of point {row.id!r} has {given} dimensions and collection "
                f"{collection.id!r} has {collection.dimensions}; embed it with the "
                "collection's model",
                metadata={"id": row.id, "dimensions": given, "wanted": collection.dimensions},
            )
        if "\0" in row.id or "\0" in row.text:
            raise InvalidField(
                f"the id or text of point {row.id!r} contains U+0000, which cannot be stored; "
                "remove it",
                metadata={"id": row.id},
            )


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _json(payload: Mapping[str, Any], point_id: str) -> str:
    if isinstance(payload, WrittenPayload):
        return payload.text.decode()
    try:
        return _ENCODER.encode(payload)
    except (TypeError, ValueError) as error:
        raise InvalidField(
            f"the payload of point {point_id!r} is not JSON: {error}", metadata={"id": point_id}
        ) from error
