"""How a second index gets what the first one has: pages of the log of one, written to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import MigrationNotReady
from services.store.changes import POINT_COLUMNS, POINT_ROWS, StoredPoint, get_head, stored_point
from services.store.collections import Collection
from services.store.index_migrations import COLUMNS, LEFT, ROW, TOMBSTONES, Migration, params_of
from services.store.points import PointRow, apply_batch
from services.store.store import Row, Store, Tx


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where a log was read: all rows before it, by number, then by id."""

    seq: int
    id: str


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A point to mirror. `context` is what was before its text when it was embedded. `shared` is
    the fingerprint of the passage that it names, if it does."""

    stored: StoredPoint
    passage_set_key: bytes | None
    context: str
    shared: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of the source's log; `last` where nothing came after it."""

    points: tuple[Mirrored, ...]
    deletes: tuple[str, ...]
    points_to: Place
    tombstones_to: Place
    head_seq: int
    last: bool


_FOUND = f"""
SELECT {POINT_COLUMNS}, p.passage_set_key, s.context, s.heading_path, k.fingerprint
FROM {POINT_ROWS}
LEFT JOIN passage_sets k ON k.tenant = p.tenant AND k.passage_set_key = p.passage_set_key
WHERE p.tenant = %(tenant)s AND p.collection_uid = %(uid)s AND p.seq > 0
    AND p.seq >= %(seq)s AND (p.seq > %(seq)s OR p.id > %(id)s)
"""
_PAGE = f"{_FOUND} ORDER BY p.seq, p.id LIMIT %(rows)s"
_RANGE = (
    f"{_FOUND} AND p.seq <= %(until_seq)s AND (p.seq < %(until_seq)s OR p.id <= %(until_id)s) "
    "ORDER BY p.seq, p.id"
)
_HELD = f"{ROW} AND lease_owner = %(owner)s AND source_uid = %(source)s"
_MINE = (
    f"{_HELD} "
    "AND points_seq = %(points_seq)s AND points_id = %(points_id)s "
    "AND tombstones_seq = %(tombstones_seq)s AND tombstones_id = %(tombstones_id)s"
)


async def read_page(store: Store, migration: Migration, rows_max: int) -> Page | None:
    """What the source has beyond where the mirror stands; None where it is gone. Raises
    MigrationNotReady where the mirror was away for so long that deletes are forgotten."""
    key = {"tenant": migration.tenant, "uid": migration.source_uid, "rows": rows_max}
    async with store.snapshot() as tx:
        head = await get_head(tx, migration.tenant, migration.source_uid)
        if head is None:
            return None
        if head.floor >= migration.tombstones_seq:
            raise MigrationNotReady(
                f"the log of collection {head.collection_id!r} is trimmed below {head.floor}, and "
                f"its deletes were mirrored up to {migration.tombstones_seq}: some are not known "
                "any more. End the migration and start another.",
                metadata={"collection": head.collection_id, "floor": head.floor},
            )
        # As `changes` does: without statistics PostgreSQL would sort the whole collection.
        await tx.run("SET LOCAL enable_sort = off")
        rows = await tx.rows(_PAGE, {**key, "seq": migration.points_seq, "id": migration.points_id})
        dead = await tx.rows(
            TOMBSTONES, {**key, "seq": migration.tombstones_seq, "id": migration.tombstones_id}
        )
    after = Place(head.seq + 1, "")
    more_points, more_dead = len(rows) == rows_max, len(dead) == rows_max
    return Page(
        points=_mirrored(rows),
        deletes=tuple(row[1] for row in dead),
        points_to=Place(rows[-1][1], rows[-1][0]) if more_points else after,
        tombstones_to=Place(dead[-1][0], dead[-1][1]) if more_dead else after,
        head_seq=head.seq,
        last=not more_points and not more_dead,
    )


async def read_range(
    store: Store, migration: Migration, after: Place, until: Place
) -> tuple[Mirrored, ...]:
    """What of the source is between two places now. A row that was written since is found later."""
    async with store.snapshot() as tx:
        await tx.run("SET LOCAL enable_sort = off")
        rows = await tx.rows(
            _RANGE,
            {
                "tenant": migration.tenant,
                "uid": migration.source_uid,
                "seq": after.seq,
                "id": after.id,
                "until_seq": until.seq,
                "until_id": until.id,
            },
        )
    return _mirrored(rows)


async def split_points(store: Store, migration: Migration, rows_max: int) -> list[Place]:
    """Places that cut what is left of the source into ranges of so many points; the last one is
    beyond all that the source has now."""
    async with store.snapshot() as tx:
        head = await get_head(tx, migration.tenant, migration.source_uid)
        if head is None:
            return []
        found = await tx.rows(
            "SELECT seq, id FROM (SELECT seq, id, row_number() OVER (ORDER BY seq, id) AS n "
            f"{LEFT}) AS numbered WHERE n %% %(rows)s = 0 ORDER BY seq, id",
            {
                "tenant": migration.tenant,
                "uid": migration.source_uid,
                "seq": migration.points_seq,
                "id": migration.points_id,
                "rows": rows_max,
            },
        )
    return [*(Place(seq, id) for seq, id in found), Place(head.seq + 1, "")]


async def write_range(
    store: Store, migration: Migration, target: Collection, rows: Sequence[PointRow], owner: str
) -> bool:
    """Write points of a range to the second index, as often as it takes: the last time counts.
    False, and nothing written, where the lease is another's."""

    async def work(tx: Tx) -> bool:
        held = await tx.row(f"SELECT 1 FROM index_migrations WHERE {_HELD} FOR SHARE", params)
        if held is not None and rows:
            await apply_batch(tx, target, rows)
        return held is not None

    params = {**params_of(migration), "owner": owner}
    return await store.run(migration.tenant, work)


async def move_points(tx: Tx, migration: Migration, place: Place, owner: str) -> bool:
    """Say that all points before a place were mirrored. False where the lease is another's."""
    return bool(
        await tx.run(
            "UPDATE index_migrations SET points_seq = %(to_seq)s, points_id = %(to_id)s, "
            f"problem = '', update_time = clock_timestamp() WHERE {_HELD}",
            {**params_of(migration), "owner": owner, "to_seq": place.seq, "to_id": place.id},
        )
    )


async def write_page(
    store: Store,
    migration: Migration,
    target: Collection,
    page: Page,
    rows: Sequence[PointRow],
    owner: str,
) -> Migration | None:
    """Write a page to the second index, and that it was written, in one transaction: `rows` are its
    points. None, and nothing written, where the lease is another's or the page was read before
    another was written."""

    async def work(tx: Tx) -> Migration | None:
        moved = await tx.one(
            Migration,
            "UPDATE index_migrations SET points_seq = %(to_points_seq)s, "
            "points_id = %(to_points_id)s, tombstones_seq = %(to_tombstones_seq)s, "
            "tombstones_id = %(to_tombstones_id)s, problem = '', "
            "mirrored_seq = CASE WHEN %(last)s THEN %(head)s ELSE mirrored_seq END, "
            f"update_time = clock_timestamp() WHERE {_MINE} RETURNING {COLUMNS}",
            {
                **params_of(migration),
                "owner": owner,
                "to_points_seq": page.points_to.seq,
                "to_points_id": page.points_to.id,
                "to_tombstones_seq": page.tombstones_to.seq,
                "to_tombstones_id": page.tombstones_to.id,
                "last": page.last,
                "head": page.head_seq,
            },
        )
        if moved is not None and (rows or page.deletes):
            await apply_batch(tx, target, rows, page.deletes)
        return moved

    return await store.run(migration.tenant, work)


def _mirrored(rows: Sequence[Row]) -> tuple[Mirrored, ...]:
    points = []
    for row in rows:
        passage_set_key, context, path, fingerprint = row[-4:]
        if context is None:
            context = " > ".join(path or ())
        points.append(Mirrored(stored_point(row), passage_set_key, context, fingerprint))
    return tuple(points)


async def sample_texts(tx: Tx, migration: Migration, count: int) -> list[str]:
    """Texts of the source's points, the same ones for the same points."""
    rows = await tx.rows(
        f"SELECT coalesce(s.text, p.text) FROM {POINT_ROWS} "
        "WHERE p.tenant = %(tenant)s AND p.collection_uid = %(uid)s AND p.id = ANY(ARRAY("
        "  SELECT id FROM points WHERE tenant = %(tenant)s AND collection_uid = %(uid)s "
        "  ORDER BY hashtext(id), id LIMIT %(count)s))",
        {"tenant": migration.tenant, "uid": migration.source_uid, "count": count},
    )
    return [str(row[0]) for row in rows if row[0]]


def mirrored_row(mirrored: Mirrored, **made: Any) -> PointRow:
    """A point as the second index gets it: with `made` in place of what it has of a model, if any,
    and its passage's values where it names one and brings none."""
    point = mirrored.stored.point
    row = PointRow(
        id=point.id,
        payload=point.payload,
        document=point.document or None,
        passage_index=point.passage_index,
        passage_set_key=mirrored.passage_set_key,
        sparse_vector=point.sparse_vector,
    )
    if mirrored.passage_set_key is None:
        row = replace(row, text=point.text)
    return replace(row, **made)
