"""Parsed texts, and passages with their vectors: made once, shared by documents alike.

`put_*` and `adopt_*` lock the shared row until the commit, so that it cannot be collected before
the document that refers to it is there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from engine.documents.places import Place
from engine.errors import InvalidField
from engine.types import Sentences, Span, TokenVectors, Vector
from services.store.codec import pack_sentences, pack_tokens, pack_vector, unpack_sentences
from services.store.store import Tx

_BATCH_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredText:
    """A parsed document. `blocks` is JSON, as the parser's caller wrote it."""

    text_key: bytes
    title: str
    media_type: str
    page_count: int
    text: str
    blocks: str


@dataclass(frozen=True, slots=True)
class PassageSet:
    """One way of cutting and embedding one text. `passages` is how many there are."""

    passage_set_key: bytes
    fingerprint: str
    passages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageRow:
    """A passage; `text` is exactly the characters of `span` in the stored text. `context` is what
    was before it when it was embedded; None where it is not known. `parent` is the span of what it
    is a part of, in a hierarchical collection; the first part has its text."""

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


async def put_text(tx: Tx, text: StoredText) -> None:
    """Store a parsed text unless it is stored. Raises InvalidField for U+0000."""
    if "\0" in text.text or "\0" in text.title:
        raise InvalidField("the parsed text contains U+0000, which cannot be stored; remove it")
    if await adopt_text(tx, text.text_key):
        return
    await tx.run(
        "INSERT INTO texts (tenant, text_key, title, media_type, page_count, text, blocks) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s::json) "
        "ON CONFLICT (tenant, text_key) DO UPDATE SET title = excluded.title",
        (
            *(tx.tenant, text.text_key, text.title, text.media_type),
            *(text.page_count, text.text, text.blocks),
        ),
    )


async def adopt_text(tx: Tx, text_key: bytes) -> bool:
    """Lock a stored text; False where it is not stored (any more)."""
    row = await tx.row(
        "SELECT 1 FROM texts WHERE tenant = %s AND text_key = %s FOR NO KEY UPDATE",
        (tx.tenant, text_key),
    )
    return row is not None


async def get_text(tx: Tx, text_key: bytes) -> StoredText | None:
    """None where it is not stored."""
    return await tx.one(
        StoredText,
        "SELECT text_key, title, media_type, page_count, text, blocks::text AS blocks FROM texts "
        "WHERE tenant = %s AND text_key = %s",
        (tx.tenant, text_key),
    )


async def put_passages(tx: Tx, passage_set: PassageSet, passages: Sequence[PassageRow]) -> None:
    """Store passages with their vectors unless they are stored."""
    if len(passages) != passage_set.passages:
        raise ValueError(f"{len(passages)} passages for a set of {passage_set.passages}")
    row = await tx.row(
        "INSERT INTO passage_sets (tenant, passage_set_key, fingerprint, passages) "
        "VALUES (%s, %s, %s, %s) ON CONFLICT (tenant, passage_set_key) "
        "DO UPDATE SET passages = excluded.passages RETURNING xmax = 0",
        (
            *(tx.tenant, passage_set.passage_set_key),
            *(passage_set.fingerprint, passage_set.passages),
        ),
    )
    if row is None or not row[0]:
        return
    for start in range(0, len(passages), _BATCH_ROWS):
        await _insert(tx, passage_set.passage_set_key, passages[start : start + _BATCH_ROWS])


async def adopt_passages(tx: Tx, passage_set_key: bytes) -> PassageSet | None:
    """Lock stored passages; None where they are not stored (any more)."""
    return await tx.one(
        PassageSet,
        "SELECT passage_set_key, fingerprint, passages FROM passage_sets "
        "WHERE tenant = %s AND passage_set_key = %s FOR NO KEY UPDATE",
        (tx.tenant, passage_set_key),
    )


async def get_passage_set(tx: Tx, passage_set_key: bytes) -> PassageSet | None:
    """The same without a lock: to know whether embedding is needed."""
    return await tx.one(
        PassageSet,
        "SELECT passage_set_key, fingerprint, passages FROM passage_sets "
        "WHERE tenant = %s AND passage_set_key = %s",
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
        "span_end, heading_path, context, page, tokens, vector, sentences, token_vectors, places, "
        "parent_start, parent_end, parent_text) "
        "SELECT %(tenant)s, %(key)s, t.i, t.text, t.a, t.b, t.path::json, t.context, t.page, "
        "t.tokens, t.vector, t.sentences, t.token_vectors, t.places::json, "
        "t.parent_start, t.parent_end, nullif(t.parent_text, '') "
        "FROM unnest(%(indexes)b::int[], %(texts)b::text[], "
        "%(starts)b::int[], %(ends)b::int[], %(paths)b::text[], %(contexts)b::text[], "
        "%(pages)b::int[], %(tokens)b::int[], %(vectors)b::bytea[], %(sentences)b::bytea[], "
        "%(token_vectors)b::bytea[], %(places)b::text[], %(parent_starts)b::int[], "
        "%(parent_ends)b::int[], %(parent_texts)b::text[]) "
        "AS t (i, text, a, b, path, context, page, tokens, vector, sentences, token_vectors, "
        "places, parent_start, parent_end, parent_text)",
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
