"""Collections, and the counter row that each of them has."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from engine.documents.chunk import Strategy
from engine.errors import CollectionExists, CollectionNotFound
from services.store import jobs, sharing
from services.store.store import Tx

Metric: TypeAlias = Literal["cosine", "dot", "euclidean"]
VectorStorage: TypeAlias = Literal["float32", "float16", "int8"]

_COLUMNS = (
    "tenant, id, uid, home_uid, display_name, embedding_model, fingerprint, dimensions, metric, "
    "language, chunk_tokens_max, chunk_overlap_tokens, chunk_strategy, hnsw_m, "
    "hnsw_ef_construction, hnsw_ef_search, limit_max, ef_search_max, upsert_points_max, "
    "payload_bytes_max, filter_conditions_max, points_max, bytes_max, searches_per_second, "
    "writes_per_second, recall_sample_share, recall_target, rerank_model, vector_storage, "
    "token_store, beams, system, create_time, update_time"
)
SAMPLE_SHARE_DEFAULT = 0.01
RECALL_TARGET_DEFAULT = 0.95
_OWN_BEAMS = [0] * 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionLimits:
    """What a collection may be asked for; 0 where the node's limits hold. Rates are of one node."""

    limit_max: int = 0
    ef_search_max: int = 0
    upsert_points_max: int = 0
    payload_bytes_max: int = 0
    filter_conditions_max: int = 0
    points_max: int = 0
    bytes_max: int = 0
    searches_per_second: float = 0.0
    writes_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSpec(CollectionLimits):
    """What a caller chooses. Empty `embedding_model` and `fingerprint`: vectors only."""

    display_name: str = ""
    embedding_model: str = ""
    fingerprint: str = ""
    dimensions: int
    metric: Metric = "cosine"
    language: str = "en"
    chunk_tokens_max: int = 200
    chunk_overlap_tokens: int = 32
    chunk_strategy: Strategy = "structure"
    hnsw_m: int = 16
    hnsw_ef_construction: int = 100
    hnsw_ef_search: int = 64
    recall_sample_share: float = SAMPLE_SHARE_DEFAULT
    recall_target: float = RECALL_TARGET_DEFAULT
    rerank_model: str = ""
    vector_storage: VectorStorage = "float32"
    token_store: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection(CollectionSpec):
    """A row. `uid` names the log and the indexes of it: a collection made anew has another, and so
    has one whose migration was flipped. Documents, jobs and snapshots belong to `home_uid`, which
    stays as long as the collection. `beams` are learned, one for each band of selectivity. One of
    the `system` is kept by a service for itself, and no list has it."""

    tenant: str
    id: str
    uid: uuid.UUID
    home_uid: uuid.UUID
    beams: list[int]
    system: bool
    create_time: datetime
    update_time: datetime

    @property
    def hidden(self) -> bool:
        """Whether it is the second index of a migration, which no name leads to."""
        return "/" in self.id


def hidden_id(collection_id: str) -> str:
    """The id of a collection's second index; no id that a caller may choose has the form."""
    return f"{collection_id}/second"


async def create_collection(
    tx: Tx,
    collection_id: str,
    spec: CollectionSpec,
    *,
    first_seq: int = 0,
    system: bool = False,
) -> Collection:
    """Make a collection and its counter row at `first_seq`. Raises CollectionExists."""
    params = {
        **{name: getattr(spec, name) for name in CollectionSpec.__dataclass_fields__},
        "tenant": tx.tenant,
        "id": collection_id,
        "uid": (uid := uuid.uuid4()),
        "home_uid": uid,
        "system": system,
    }
    names = ", ".join(params)
    values = ", ".join(f"%({name})s" for name in params)
    made = await tx.one(
        Collection,
        f"INSERT INTO collections ({names}) VALUES ({values}) "
        f"ON CONFLICT (tenant, id) DO NOTHING RETURNING {_COLUMNS}",
        params,
    )
    if made is None:
        raise CollectionExists(
            f"collection {collection_id!r} exists; choose another id",
            metadata={"collection": collection_id},
        )
    await tx.run(
        "WITH head AS ("
        "  INSERT INTO heads (tenant, collection_uid, seq, change_id, floor) "
        "  VALUES (%(tenant)s, %(uid)s, %(seq)s, gen_random_uuid(), %(seq)s) "
        "  RETURNING seq, change_id) "
        "INSERT INTO commits (tenant, collection_uid, seq, change_id, commit_time) "
        "SELECT %(tenant)s, %(uid)s, seq, change_id, now() FROM head",
        {**params, "seq": first_seq},
    )
    return made


async def get_collection(tx: Tx, collection_id: str) -> Collection:
    """Raises CollectionNotFound."""
    found = await tx.one(
        Collection,
        f"SELECT {_COLUMNS} FROM collections WHERE tenant = %s AND id = %s",
        (tx.tenant, collection_id),
    )
    if found is None:
        raise collection_not_found(collection_id)
    return found


async def system_collection(tx: Tx, tenant: str, collection_id: str) -> Collection | None:
    """What a service keeps for itself in a tenant, if it does; for `Store.system`."""
    return await tx.one(
        Collection,
        f"SELECT {_COLUMNS} FROM collections WHERE tenant = %s AND id = %s AND system",
        (tenant, collection_id),
    )


async def hold_collection(tx: Tx, collection_id: str) -> Collection:
    """The same, and nobody else changes it until this transaction ends."""
    found = await tx.one(
        Collection,
        f"SELECT {_COLUMNS} FROM collections WHERE tenant = %s AND id = %s FOR NO KEY UPDATE",
        (tx.tenant, collection_id),
    )
    if found is None:
        raise collection_not_found(collection_id)
    return found


async def list_collections(tx: Tx, *, after: str = "", limit: int = 1000) -> list[Collection]:
    """By id, those that come after `after`; no hidden ones and none of the system."""
    return await tx.all(
        Collection,
        f"SELECT {_COLUMNS} FROM collections WHERE tenant = %s AND id > %s "
        "AND strpos(id, '/') = 0 AND NOT system ORDER BY id LIMIT %s",
        (tx.tenant, after, limit),
    )


async def all_collections(tx: Tx) -> list[Collection]:
    """Of every tenant; for `Store.system` and `Store.snapshot`."""
    return await tx.all(Collection, f"SELECT {_COLUMNS} FROM collections ORDER BY tenant, id")


async def collections_of(tx: Tx, uids: Sequence[uuid.UUID]) -> list[Collection]:
    """These collections, as far as they exist; for `Store.system`."""
    return await tx.all(
        Collection, f"SELECT {_COLUMNS} FROM collections WHERE uid = ANY(%s)", (list(uids),)
    )


async def update_collection(
    tx: Tx,
    collection_id: str,
    *,
    display_name: str | None = None,
    chunk_tokens_max: int | None = None,
    chunk_overlap_tokens: int | None = None,
    chunk_strategy: Strategy | None = None,
    hnsw_m: int | None = None,
    hnsw_ef_construction: int | None = None,
    hnsw_ef_search: int | None = None,
    limits: CollectionLimits | None = None,
    recall_sample_share: float | None = None,
    recall_target: float | None = None,
    rerank_model: str | None = None,
    vector_storage: VectorStorage | None = None,
) -> Collection:
    """Change what may change; None leaves a value as it is. Raises CollectionNotFound.

    Whoever changes `vector_storage` says so in the log too: `segments.mark_storage`. What was
    learned of searches is forgotten with another graph or target.
    """
    changed: dict[str, object] = {
        "display_name": display_name,
        "chunk_tokens_max": chunk_tokens_max,
        "chunk_overlap_tokens": chunk_overlap_tokens,
        "chunk_strategy": chunk_strategy,
        "hnsw_m": hnsw_m,
        "hnsw_ef_construction": hnsw_ef_construction,
        "hnsw_ef_search": hnsw_ef_search,
        "recall_sample_share": recall_sample_share,
        "recall_target": recall_target,
        "rerank_model": rerank_model,
        "vector_storage": vector_storage,
        **({} if limits is None else asdict(limits)),
    }
    if any(one is not None for one in (hnsw_m, hnsw_ef_construction, hnsw_ef_search)) or (
        recall_target is not None
    ):
        changed["beams"] = _OWN_BEAMS
    changed = {name: value for name, value in changed.items() if value is not None}
    sets = "".join(f"{name} = %({name})s, " for name in changed)
    updated = await tx.one(
        Collection,
        f"UPDATE collections SET {sets} update_time = now() "
        f"WHERE tenant = %(tenant)s AND id = %(id)s RETURNING {_COLUMNS}",
        {**changed, "tenant": tx.tenant, "id": collection_id},
    )
    if updated is None:
        raise collection_not_found(collection_id)
    return updated


async def set_beams(tx: Tx, collection: Collection, beams: Sequence[int]) -> bool:
    """Change the beams from those that the row had when it was read; False where they, or what they
    were learned for, are others by now."""
    return bool(
        await tx.run(
            "UPDATE collections SET beams = %(beams)s::integer[] "
            "WHERE tenant = %(tenant)s AND uid = %(uid)s AND beams = %(known)s::integer[] "
            "AND hnsw_m = %(m)s AND hnsw_ef_construction = %(ef_construction)s "
            "AND hnsw_ef_search = %(ef_search)s AND recall_target = %(target)s",
            {
                "tenant": collection.tenant,
                "uid": collection.uid,
                "beams": list(beams),
                "known": collection.beams,
                "m": collection.hnsw_m,
                "ef_construction": collection.hnsw_ef_construction,
                "ef_search": collection.hnsw_ef_search,
                "target": collection.recall_target,
            },
        )
    )


async def delete_collection(tx: Tx, collection_id: str) -> Collection:
    """Delete it with its documents, snapshots and log; its jobs are cancelled.

    Raises CollectionNotFound, also for one of the system, which goes with what it indexes.

    Nobody sees its points from now on; `cleanup.purge_points` removes them piece by piece.
    """
    found = await tx.one(
        Collection,
        f"SELECT {_COLUMNS} FROM collections WHERE tenant = %s AND id = %s FOR UPDATE",
        (tx.tenant, collection_id),
    )
    if found is None or found.system:
        raise collection_not_found(collection_id)
    key = (found.tenant, found.home_uid)
    await tx.rows(
        "SELECT id FROM documents WHERE tenant = %s AND collection_uid = %s ORDER BY id FOR UPDATE",
        key,
    )
    await jobs.cancel_jobs(tx, found.home_uid)
    gone = await tx.all(
        sharing.Shares,
        "DELETE FROM document_versions WHERE tenant = %s AND collection_uid = %s "
        f"RETURNING {sharing.COLUMNS}",
        key,
    )
    gone += await tx.all(
        sharing.Shares,
        f"DELETE FROM documents WHERE tenant = %s AND collection_uid = %s "
        f"RETURNING {sharing.COLUMNS}",
        key,
    )
    await sharing.release(tx, gone)
    await tx.run("DELETE FROM snapshots WHERE tenant = %s AND collection_uid = %s", key)
    await tx.run("DELETE FROM index_migrations WHERE tenant = %s AND home_uid = %s", key)
    second = await tx.one(
        Collection,
        f"SELECT {_COLUMNS} FROM collections WHERE tenant = %s AND id = %s FOR UPDATE",
        (found.tenant, hidden_id(found.id)),
    )
    if second is not None:
        await drop_index(tx, second)
    await drop_index(tx, found)
    return found


async def drop_index(tx: Tx, collection: Collection) -> None:
    """Delete a row with its log; nothing refers to it any more."""
    key = (collection.tenant, collection.uid)
    await tx.run("DELETE FROM heads WHERE tenant = %s AND collection_uid = %s", key)
    await tx.run("DELETE FROM commits WHERE tenant = %s AND collection_uid = %s", key)
    await tx.run("DELETE FROM collections WHERE tenant = %s AND uid = %s", key)
    await tx.run("INSERT INTO deleted_collections (tenant, collection_uid) VALUES (%s, %s)", key)


def collection_not_found(collection_id: str) -> CollectionNotFound:
    """The error that says so."""
    return CollectionNotFound(
        f"collection {collection_id!r} does not exist; create it first",
        metadata={"collection": collection_id},
    )
