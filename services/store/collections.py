"""Collections, and the counter row that each of them has."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from engine.errors import CollectionExists, CollectionNotFound
from services.store import jobs, sharing
from services.store.store import Tx

Metric: TypeAlias = Literal["cosine", "dot", "euclidean"]

_COLUMNS = (
    "tenant, id, uid, display_name, embedding_model, fingerprint, dimensions, metric, language, "
    "chunk_tokens_max, chunk_overlap_tokens, hnsw_m, hnsw_ef_construction, hnsw_ef_search, "
    "create_time, update_time"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSpec:
    """What a caller chooses. Empty `embedding_model` and `fingerprint`: vectors only."""

    display_name: str = ""
    embedding_model: str = ""
    fingerprint: str = ""
    dimensions: int
    metric: Metric = "cosine"
    language: str = "en"
    chunk_tokens_max: int = 200
    chunk_overlap_tokens: int = 32
    hnsw_m: int = 16
    hnsw_ef_construction: int = 100
    hnsw_ef_search: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection(CollectionSpec):
    """A row. `uid` is of this life of the name: a collection made anew has another."""

    tenant: str
    id: str
    uid: uuid.UUID
    create_time: datetime
    update_time: datetime


async def create_collection(
    tx: Tx, collection_id: str, spec: CollectionSpec, *, first_seq: int = 0
) -> Collection:
    """Make a collection and its counter row at `first_seq`. Raises CollectionExists."""
    params = {
        **{name: getattr(spec, name) for name in CollectionSpec.__dataclass_fields__},
        "tenant": tx.tenant,
        "id": collection_id,
        "uid": uuid.uuid4(),
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


async def list_collections(tx: Tx, *, after: str = "", limit: int = 1000) -> list[Collection]:
    """By id, those that come after `after`."""
    return await tx.all(
        Collection,
        f"SELECT {_COLUMNS} FROM collections WHERE tenant = %s AND id > %s ORDER BY id LIMIT %s",
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
    hnsw_m: int | None = None,
    hnsw_ef_construction: int | None = None,
    hnsw_ef_search: int | None = None,
) -> Collection:
    """Change what may change; None leaves a value as it is. Raises CollectionNotFound."""
    changed = {
        "display_name": display_name,
        "chunk_tokens_max": chunk_tokens_max,
        "chunk_overlap_tokens": chunk_overlap_tokens,
        "hnsw_m": hnsw_m,
        "hnsw_ef_construction": hnsw_ef_construction,
        "hnsw_ef_search": hnsw_ef_search,
    }
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


async def delete_collection(tx: Tx, collection_id: str) -> Collection:
    """Delete it with its documents and log; its jobs are cancelled. Raises CollectionNotFound.

    Nobody sees its points from now on; `cleanup.purge_points` removes them piece by piece.
    """
    found = await tx.one(
        Collection,
        f"SELECT {_COLUMNS} FROM collections WHERE tenant = %s AND id = %s FOR UPDATE",
        (tx.tenant, collection_id),
    )
    if found is None:
        raise collection_not_found(collection_id)
    key = (found.tenant, found.uid)
    await tx.rows(
        "SELECT id FROM documents WHERE tenant = %s AND collection_uid = %s ORDER BY id FOR UPDATE",
        key,
    )
    await jobs.cancel_jobs(tx, found.uid)
    gone = await tx.all(
        sharing.Shares,
        f"DELETE FROM documents WHERE tenant = %s AND collection_uid = %s "
        f"RETURNING {sharing.COLUMNS}",
        key,
    )
    await sharing.release(tx, gone)
    await tx.run("DELETE FROM heads WHERE tenant = %s AND collection_uid = %s", key)
    await tx.run("DELETE FROM commits WHERE tenant = %s AND collection_uid = %s", key)
    await tx.run("DELETE FROM collections WHERE tenant = %s AND uid = %s", key)
    await tx.run("INSERT INTO deleted_collections (tenant, collection_uid) VALUES (%s, %s)", key)
    return found


def collection_not_found(collection_id: str) -> CollectionNotFound:
    """The error that says so."""
    return CollectionNotFound(
        f"collection {collection_id!r} does not exist; create it first",
        metadata={"collection": collection_id},
    )
