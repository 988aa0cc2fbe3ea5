"""What the tests of the store act with: databases, collections, points, a replica."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import psycopg

from services.store import changes
from services.store.changes import Feed, Gone, Rebuild
from services.store.collections import Collection, CollectionSpec, create_collection
from services.store.points import PointRow, Watermark
from services.store.store import Store

_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """A database that the role of the application owns."""

    name: str
    url: str
    admin_url: str

    def backup(self) -> Database:
        """A copy of the database's files as they are now. Nobody may be connected."""
        return create_database(self.admin_url, self.url, template=self.name)

    def drop(self) -> None:
        """Removes it, and whoever is connected."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self.name} WITH (FORCE)".encode())


def create_database(admin_url: str, url: str, template: str = "template1") -> Database:
    name = f"t{next(_NUMBERS)}"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER ragmesh".encode())
    old = psycopg.conninfo.conninfo_to_dict(url)
    return Database(name, psycopg.conninfo.make_conninfo("", **{**old, "dbname": name}), admin_url)


async def make_collection(
    store: Store, tenant: str, collection_id: str, dimensions: int = 4
) -> Collection:
    async with store.transaction(tenant) as tx:
        return await create_collection(tx, collection_id, CollectionSpec(dimensions=dimensions))


def point(point_id: str, text: str = "", *, dimensions: int = 4) -> PointRow:
    return PointRow(id=point_id, text=text, vector=np.ones(dimensions, dtype=np.float32))


@dataclass(slots=True)
class Replica:
    """What an index would hold: texts by id, and the numbers they were written with."""

    collection: Collection
    watermark: Watermark | None = None
    texts: dict[str, str] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)

    async def catch_up(self, store: Store) -> Feed | Rebuild | Gone:
        tenant, uid = self.collection.tenant, self.collection.uid
        reading = (
            changes.snapshot_scan(store, tenant, uid)
            if self.watermark is None
            else changes.read_changes(store, tenant, uid, self.watermark)
        )
        async with reading as feed:
            if isinstance(feed, Feed):
                async for page in feed.pages(rows_max=50):
                    for found in page.upserts:
                        self.texts[found.point.id] = found.point.text
                        self.seqs[found.point.id] = found.seq
                    for point_id in page.deletes:
                        self.texts.pop(point_id, None)
                        self.seqs.pop(point_id, None)
                self.watermark = Watermark(feed.head.seq, feed.head.change_id)
            return feed
