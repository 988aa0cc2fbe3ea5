"""Texts of files as they are kept, and the keys by which what was made of them is found again."""

from __future__ import annotations

import hashlib
import json

from engine.documents.parsed import Parsed
from services.store.collections import Collection
from services.store.documents import Document
from services.store.passages import StoredText

PARSER_VERSION = "2"
"""Raise it when the same file would give another text: then it is parsed again."""
CHUNKER_VERSION = "3"
"""Raise it when the same text would be cut otherwise."""


def text_key(document: Document) -> bytes:
    """The key of the text that a parser makes of a document."""
    parts = (document.content_sha256.hex(), PARSER_VERSION, document.media_type)
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


def stored_text(key: bytes, parsed: Parsed) -> StoredText:
    """A parsed text as a row."""
    value = json.loads(parsed.to_json())
    del value["text"]
    return StoredText(
        text_key=key,
        title=parsed.title,
        media_type=parsed.media_type,
        page_count=parsed.page_count,
        text=parsed.text,
        blocks=json.dumps(value, separators=(",", ":")),
    )


def read_parsed(stored: StoredText) -> Parsed:
    """A row as a parsed text."""
    return Parsed.from_json(json.dumps({**json.loads(stored.blocks), "text": stored.text}))
