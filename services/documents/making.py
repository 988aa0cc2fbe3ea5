"""What both ways of ingesting do (`stages`, `at_once`): parse a file, and embed chunks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.documents.chunk import CONTEXT_TOKENS_MAX, Chunk
from engine.documents.parsed import Parsed
from engine.models.late import answer_parts
from services.documents.asking import embed
from services.documents.originals import Originals
from services.documents.parser import Parsers
from services.documents.texts import passage_key
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.store import passages
from services.store.collections import Collection
from services.store.passages import Embedded, PassageRow
from services.store.store import Store
from services.store.versions import Version

EMBED_PASSAGES_MAX = 32
"""Passages sent to the embedding service at once: what a retry may have to do again."""
SPECIAL_TOKENS_MAX = 8


@dataclass(slots=True)
class Progress:
    """How far a job is; its heartbeat writes this to the row. `total` is an estimate until the
    last section is cut."""

    stage: Literal["parse", "chunk", "embed", "publish"] = "parse"
    done: int = 0
    total: int = 0


async def parsed_sections(
    originals: Originals, version: Version, parsers: Parsers
) -> AsyncGenerator[Parsed, None]:
    """The sections of a version's text, as a parser finds them. Raises as `Originals.opened` and
    `Parser.parse`."""
    opening = originals.opened(version.tenant, version.content_sha256, version.size_bytes)
    async with opening as original, parsers.free() as parser:
        parsing = parser.parse(
            original.pieces,
            version.display_name,
            version.media_type,
            size_bytes=original.size_bytes,
        )
        async with contextlib.aclosing(parsing) as sections:
            async for parsed in sections:
                yield replace(parsed, media_type=original.media_type or parsed.media_type)


def embed_parts(chunks: Sequence[Chunk], collection: Collection) -> Iterator[slice]:
    """The chunks in parts, of which each is one request to the embedding service."""
    # With what comes before a passage, and some for the special tokens.
    tokens = [chunk.tokens + CONTEXT_TOKENS_MAX + SPECIAL_TOKENS_MAX for chunk in chunks]
    return iter(answer_parts(tokens, collection.dimensions, EMBED_PASSAGES_MAX))


class PassageRows:
    """Passages with what a model makes of them, or made of equal ones before."""

    def __init__(self, store: Store, mesh: Mesh) -> None:
        self._store = store
        self._mesh = mesh

    async def made(
        self,
        collection: Collection,
        text: str,
        chunks: Sequence[Chunk],
        call: Call,
        first_index: int = 0,
        start: int = 0,
    ) -> list[PassageRow]:
        """A row for each of the chunks of a section's text, which begins at `start` in the
        document's. Raises what the embedding service does."""
        said = [text[chunk.span.start : chunk.span.end] for chunk in chunks]
        keys = [
            passage_key(collection, each, chunk.context)
            for each, chunk in zip(said, chunks, strict=True)
        ]
        async with self._store.transaction(call.tenant) as tx:
            found: dict[bytes, Embedded] = await passages.find_embedded(tx, keys)
        missing = {key: n for n, key in enumerate(keys) if key not in found}
        if missing:
            asked = [(said[n], chunks[n].context) for n in missing.values()]
            fresh = await embed(self._mesh, collection, asked, call)
            found |= dict(zip(missing, fresh, strict=True))
        placed = [chunk.shifted(start) for chunk in chunks]
        return [
            PassageRow(
                passage_index=first_index + n,
                text=said[n],
                span=chunk.span,
                heading_path=chunk.heading_path,
                context=chunk.context,
                page=chunk.page,
                places=chunk.places,
                parent=chunk.parent,
                parent_text=chunk.parent_text,
                tokens=chunk.tokens,
                vector=found[keys[n]].vector,
                sentences=found[keys[n]].sentences,
                token_vectors=found[keys[n]].token_vectors,
                passage_key=keys[n],
            )
            for n, chunk in enumerate(placed)
        ]
