"""One page of a collection's log at a time, made into what its second index holds."""

from __future__ import annotations

from collections.abc import Sequence

from engine.documents.embedding import embedding_text, passage_sentences
from engine.errors import MigrationNotReady
from services.retrieval.core import Embedded, RetrievalCore
from services.rpc.call import Call
from services.store.collections import Collection
from services.store.index_migrations import Indexes, Migration
from services.store.mirroring import Mirrored, mirrored_row, read_page, write_page
from services.store.points import PointRow
from services.store.store import Store

PAGE_ROWS = 256
"""Points between two places that a mirror that dies can go on from."""


class Mirror:
    """Writes to second indexes. Texts are embedded in the bulk lane, where the model is another."""

    def __init__(self, store: Store, core: RetrievalCore) -> None:
        self._store = store
        self._core = core

    async def step(
        self, migration: Migration, pair: Indexes, owner: str
    ) -> tuple[Migration, bool] | None:
        """Mirror the next page: the migration as it is then, and whether nothing was left. None
        where the lease is another's by now, or the source is gone.

        Raises MigrationNotReady for a point that cannot be embedded, and whatever keeps the model
        from embedding.
        """
        page = await read_page(self._store, migration, PAGE_ROWS)
        if page is None:
            return None
        idle = page.last and not page.points and not page.deletes
        if idle and not migration.problem and page.head_seq == migration.mirrored_seq:
            return migration, True
        rows = await self.rows(pair, page.points)
        moved = await write_page(self._store, migration, pair.target, page, rows, owner)
        return None if moved is None else (moved, page.last)

    async def rows(self, pair: Indexes, points: Sequence[Mirrored]) -> list[PointRow]:
        """Points as the second index holds them, embedded where they have to be. Raises as `step`
        does."""
        target = pair.target
        same = copies(pair)
        rows: list[PointRow | None] = []
        wanted: list[int] = []
        for number, one in enumerate(points):
            point = one.stored.point
            if one.shared is not None and one.shared == target.fingerprint and _shares(target):
                rows.append(mirrored_row(one))
            elif same or (point.vector is None and not point.text):
                rows.append(
                    mirrored_row(
                        one,
                        vector=point.vector,
                        sentences=point.sentences,
                        token_vectors=point.token_vectors if target.token_store else None,
                    )
                )
            else:
                _require_text(pair, one)
                wanted.append(number)
                rows.append(None)
        if wanted:
            call = Call(target.tenant, f"migration-{target.uid.hex}", lane="bulk")
            texts = [_text(points[number]) for number in wanted]
            embedded = await self._core.embed(target, texts, call)
            for number, made in zip(wanted, embedded, strict=True):
                rows[number] = _row(points[number], made)
        return [row for row in rows if row is not None]


def copies(pair: Indexes) -> bool:
    """Whether both indexes have the same vectors, so that none is made anew."""
    source, target = pair.source, pair.target
    return (source.fingerprint, source.dimensions) == (target.fingerprint, target.dimensions) and (
        source.token_store or not target.token_store
    )


def _shares(target: Collection) -> bool:
    # Whether a passage has the vectors of its tokens is not known from its fingerprint.
    return not target.token_store


def _text(one: Mirrored) -> str:
    text = one.stored.point.text
    return text if one.passage_set_key is None else embedding_text(text, one.context)


def _row(one: Mirrored, made: Embedded) -> PointRow:
    sentences = made.sentences
    if one.passage_set_key is not None and sentences is not None:
        sentences = passage_sentences(sentences, one.stored.point.text, one.context)
    return mirrored_row(
        one, vector=made.vector, sentences=sentences, token_vectors=made.token_vectors
    )


def _require_text(pair: Indexes, one: Mirrored) -> None:
    point, collection = one.stored.point, pair.source.id
    if not pair.target.embedding_model:
        raise MigrationNotReady(
            f"point {point.id!r} of collection {collection!r} cannot be mirrored: the other index "
            "has vectors that callers bring, and no model to make one. End the migration to keep "
            "the present index.",
            metadata={"collection": collection, "id": point.id},
        )
    if not point.text:
        raise MigrationNotReady(
            f"point {point.id!r} of collection {collection!r} has no text to embed with "
            f"{pair.target.embedding_model}. Give it one, or delete it: the migration goes on by "
            "itself.",
            metadata={"collection": collection, "id": point.id},
        )
