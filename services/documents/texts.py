"""Texts of files as they are kept, and the keys by which what was made of them is found again."""

from __future__ import annotations

import hashlib
import json

from engine.documents.parsed import Parsed
from services.store.collections import Collection
from services.store.texts import TextSection
from services.store.versions import Version

PARSER_VERSION = "3"
"""Raise it when the same file would give another text: then it is parsed again."""
CHUNKER_VERSION = "3"
"""Raise it when the same text would be cut otherwise."""


def text_key(version: Version) -> bytes:
    """The key of the text that a parser makes of a file."""
    parts = (version.content_sha256.hex(), PARSER_VERSION, version.media_type)
    return hashlib.sha256("/".join(parts).encode()).digest()


def passage_set_key(text_key: bytes, collection: Collection) -> bytes:
    """The key of the passages that a collection makes of a text."""
    parts = (
        text_key.hex(),
        CHUNKER_VERSION,
        str(collection.chunk_tokens_max),
        str(collection.chunk_overlap_tokens),
        collection.chunk_strategy,
        collection.fingerprint,
        *(("tokens",) if collection.token_store else ()),
    )
    return hashlib.sha256("/".join(parts).encode()).digest()


def passage_key(collection: Collection, text: str, context: str) -> bytes:
    """The key of what a collection's model makes of a passage."""
    hashed = hashlib.sha256()
    for part in (collection.fingerprint, "tokens" if collection.token_store else "", context, text):
        hashed.update(len(part).to_bytes(8, "little") + part.encode())
    return hashed.digest()


def stored_section(parsed: Parsed, section_index: int, start: int) -> TextSection:
    """A section of a parsed text as a row."""
    return TextSection(
        section_index=section_index,
        start=start,
        text=parsed.text,
        blocks=parsed.about_json(),
    )


def read_section(stored: TextSection) -> Parsed:
    """A row as a section of a parsed text."""
    return Parsed.from_json(json.dumps({**json.loads(stored.blocks), "text": stored.text}))
