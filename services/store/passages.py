"""Passages with their vectors: made once, shared by documents with the same content.

A set is there for all once it is `complete`. Until then its passages are written as they are made,
a section of the text after the other, by whoever holds a job for it (`jobs.hold_job`, first in the
transaction); two who make the same set write the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from engine.documents.places import Place
from engine.types import Sentences, Span, TokenVectors, Vector
from services.store.codec import (
    pack_sentences,
    pack_tokens,
    pack_vector,
    unpack_sentences,
    unpack_tokens,
    unpack_vector,
)
from services.store.jobs import IngestJob
from services.store.store import Tx
from services.store.versions import refer

_BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class PassageSet:
    """One way of cutting and embedding one text. `passages` is how many there are in its first
    `sections` sections, which are all where it is `complete`."""

    passage_set_key: bytes
    fingerprint: str
    passages: int = 0
    sections: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageRow:
    """A passage; `text` is exactly the characters of `span` in the stored text. `context` is what
    was before it when it was embedded; None where it is not known. `parent` is the span of what it
    is a part of, in a hierarchical collection; the first part has its text. `passage_key` is a hash
    of all that its vectors were made from."""

    passage_index: int
    text: str
    span: Span
    heading_path: tuple[str, ...] = ()
    context: str | None = None
    page: int = 0
    tokens: int = 0
    vector: Vector | None = None
    sentences: Sentences | None = None
    token_vectors: TokenVectors | None = None
    places: tuple[Place, ...] = ()
    parent: Span | None = None
    parent_text: str = ""
    passage_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a model made of a passage."""

    vector: Vector
    sentences: Sentences | None
    token_vectors: TokenVectors | None


_SET = "passage_set_key, fingerprint, passages, sections, complete"


async def begin_passages(
    tx: Tx, job: IngestJob, passage_set_key: bytes, fingerprint: str
) -> PassageSet:
    """Refer to the passages that a job makes, complete or not. Raises as `versions.refer`."""
    begun = await tx.one(
        PassageSet,
        "INSERT INTO passage_sets (tenant, passage_set_key, fingerprint, passages) "
        "VALUES (%s, %s, %s, 0) ON CONFLICT (tenant, passage_set_key) "
        f"DO UPDATE SET fingerprint = excluded.fingerprint RETURNING {_SET}",
        (tx.tenant, passage_set_key, fingerprint),
    )
    assert begun is not None
    await refer(tx, job, passage_set_key=passage_set_key)
    return begun


async def put_set(tx: Tx, whole: PassageSet) -> None:
    """Say that a set is complete whose passages are put in the same transaction; one that is there
    or begun has the same. Its row stays locked until the commit."""
    await tx.run(
        "INSERT INTO passage_sets (tenant, passage_set_key, fingerprint, passages, sections, "
        "complete) VALUES (%s, %s, %s, %s, %s, true) "
        "ON CONFLICT (tenant, passage_set_key) DO UPDATE SET passages = excluded.passages, "
        "sections = excluded.sections, complete = true",
        (
            *(tx.tenant, whole.passage_set_key, whole.fingerprint),
            *(whole.passages, whole.sections),
        ),
    )


async def find_embedded(tx: Tx, passage_keys: Sequence[bytes]) -> dict[bytes, Embedded]:
    """What was made before of passages with these keys, in any document."""
    rows = await tx.rows(
        "SELECT DISTINCT ON (passage_key) passage_key, vector, sentences, token_vectors "
        "FROM passages WHERE tenant = %s AND passage_key = ANY(%s) AND vector IS NOT NULL",
        (tx.tenant, list(passage_keys)),
    )
    found = {}
    for key, packed, sentences, tokens in rows:
        vector = unpack_vector(packed)
        assert vector is not None
        found[key] = Embedded(vector, unpack_sentences(sentences), unpack_tokens(tokens))
    return found


async def put_passages(tx: Tx, passage_set_key: bytes, passages: Sequence[PassageRow]) -> None:
    """Store passages of a set that is being made, unless they are stored."""
    for start in range(0, len(passages), _BATCH_ROWS):
        await _insert(tx, passage_set_key, passages[start : start + _BATCH_ROWS])


async def end_section(tx: Tx, after: PassageSet) -> None:
    """Say how far a set is now that another section's passages are stored."""
    await tx.run(
        "UPDATE passage_sets SET passages = %s, sections = %s, complete = %s "
        "WHERE tenant = %s AND passage_set_key = %s AND sections < %s",
        (
            *(after.passages, after.sections, after.complete),
            *(tx.tenant, after.passage_set_key, after.sections),
        ),
    )


async def get_passage_set(tx: Tx, passage_set_key: bytes) -> PassageSet | None:
    """None where it is not stored, or not complete."""
    return await tx.one(
        PassageSet,
        f"SELECT {_SET} FROM passage_sets WHERE tenant = %s AND passage_set_key = %s AND complete",
        (tx.tenant, passage_set_key),
    )


async def list_passages(
    tx: Tx, passage_set_key: bytes, *, after_index: int = -1, limit: int = 1000
) -> list[PassageRow]:
    """In the order of the text, without vectors; with sentences."""
    rows = await tx.rows(
        "SELECT passage_index, text, span_start, span_end, heading_path, page, tokens, sentences, "
        "places, parent_start, parent_end FROM passages "
        "WHERE tenant = %s AND passage_set_key = %s AND passage_index > %s "
        "ORDER BY passage_index LIMIT %s",
        (tx.tenant, passage_set_key, after_index, limit),
    )
    return [
        PassageRow(
            passage_index=index,
            text=text,
            span=Span(start, end),
            heading_path=tuple(path),
            page=page,
            tokens=tokens,
            sentences=unpack_sentences(sentences),
            places=_read_places(places),
            parent=None if parent[0] is None else Span(*parent),
        )
        for index, text, start, end, path, page, tokens, sentences, places, *parent in rows
    ]


async def _insert(tx: Tx, passage_set_key: bytes, passages: Sequence[PassageRow]) -> None:
    await tx.run(
        "INSERT INTO passages (tenant, passage_set_key, passage_index, text, span_start, "
        "span_end, heading_path, context, page, tokens, vector, sentences, token_vectors, "
        "passage_key, places, parent_start, parent_end, parent_text) "
        "SELECT %(tenant)s, %(key)s, t.i, t.text, t.a, t.b, t.path::json, t.context, t.page, "
        "t.tokens, t.vector, t.sentences, t.token_vectors, t.passage_key, t.places::json, "
        "t.parent_start, t.parent_end, nullif(t.parent_text, '') "
        "FROM unnest(%(indexes)b::int[], %(texts)b::text[], "
        "%(starts)b::int[], %(ends)b::int[], %(paths)b::text[], %(contexts)b::text[], "
        "%(pages)b::int[], %(tokens)b::int[], %(vectors)b::bytea[], %(sentences)b::bytea[], "
        "%(token_vectors)b::bytea[], %(passage_keys)b::bytea[], %(places)b::text[], "
        "%(parent_starts)b::int[], %(parent_ends)b::int[], %(parent_texts)b::text[]) "
        "AS t (i, text, a, b, path, context, page, tokens, vector, sentences, token_vectors, "
        "passage_key, places, parent_start, parent_end, parent_text) ON CONFLICT DO NOTHING",
        {
            "tenant": tx.tenant,
            "key": passage_set_key,
            "indexes": [passage.passage_index for passage in passages],
            "texts": [passage.text for passage in passages],
            "starts": [passage.span.start for passage in passages],
            "ends": [passage.span.end for passage in passages],
            "paths": [json.dumps(passage.heading_path) for passage in passages],
            "contexts": [passage.context for passage in passages],
            "pages": [passage.page for passage in passages],
            "tokens": [passage.tokens for passage in passages],
            "vectors": [pack_vector(passage.vector) for passage in passages],
            "sentences": [pack_sentences(passage.sentences) for passage in passages],
            "token_vectors": [pack_tokens(passage.token_vectors) for passage in passages],
            "passage_keys": [passage.passage_key for passage in passages],
            "places": [_places_json(passage.places) for passage in passages],
            "parent_starts": [passage.parent and passage.parent.start for passage in passages],
            "parent_ends": [passage.parent and passage.parent.end for passage in passages],
            "parent_texts": [passage.parent_text for passage in passages],
        },
    )


def _places_json(places: Sequence[Place]) -> str:
    return json.dumps([[place.page, *(place.box or ())] for place in places])


def _read_places(rows: Sequence[Sequence[float]] | None) -> tuple[Place, ...]:
    places = []
    for page, *edges in rows or ():
        left, bottom, right, top = edges or (0.0,) * 4
        places.append(Place(int(page), (left, bottom, right, top) if edges else None))
    return tuple(places)
