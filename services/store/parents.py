"""What small passages are a part of: read for those that a search found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.types import Sentences, Span
from services.store.changes import POINT_ROWS
from services.store.codec import unpack_sentences
from services.store.collections import Collection
from services.store.store import Tx


@dataclass(frozen=True, slots=True)
class Parent:
    """A larger passage: `text` is exactly the characters of `span` in the document's stored text.
    `sentences` are those of its parts, spans of `text`; None where they have none."""

    span: Span
    text: str
    sentences: Sentences | None


async def parents_of(tx: Tx, collection: Collection, ids: Sequence[str]) -> dict[str, Parent]:
    """The parents of points by their ids, for those that are parts of one now."""
    found = await tx.rows(
        f"SELECT p.id, p.passage_set_key, s.parent_start FROM {POINT_ROWS} "
        "WHERE p.tenant = %s AND p.collection_uid = %s AND p.id = ANY(%s) "
        "AND s.parent_start IS NOT NULL",
        (collection.tenant, collection.uid, list(ids)),
    )
    wanted = sorted({(key, start) for _, key, start in found})
    rows = await tx.rows(
        "SELECT s.passage_set_key, s.parent_start, s.parent_end, s.span_start, s.sentences, "
        "s.parent_text FROM unnest(%(keys)s::bytea[], %(starts)s::int[]) AS w (key, start) "
        "JOIN passages s ON s.tenant = %(tenant)s AND s.passage_set_key = w.key "
        "AND s.parent_start = w.start ORDER BY s.passage_set_key, s.passage_index",
        {
            "tenant": collection.tenant,
            "keys": [key for key, _ in wanted],
            "starts": [start for _, start in wanted],
        },
    )
    parts: dict[tuple[bytes, int], list[_Part]] = {}
    for key, start, *part in rows:
        parts.setdefault((bytes(key), start), []).append(_Part(*part))
    made = {place: _parent(place[1], some) for place, some in parts.items()}
    by_id = {id: made.get((bytes(key), start)) for id, key, start in found}
    return {id: parent for id, parent in by_id.items() if parent is not None}


@dataclass(frozen=True, slots=True)
class _Part:
    parent_end: int
    span_start: int
    sentences: bytes | None
    parent_text: str | None


def _parent(start: int, parts: Sequence[_Part]) -> Parent | None:
    """Of its parts in the order of the text; None where none of them has the text."""
    text = next((part.parent_text for part in parts if part.parent_text), None)
    if text is None:
        return None
    spans, vectors = [], []
    for part in parts:
        sentences = unpack_sentences(part.sentences)
        if sentences is not None:
            spans.append(sentences.spans + np.int32(part.span_start - start))
            vectors.append(sentences.vectors)
    whole = Sentences(np.concatenate(spans), np.concatenate(vectors)) if spans else None
    return Parent(Span(start, parts[0].parent_end), text, whole)
