"""Parsed texts in sections: made once, shared by documents with the same content.

A text is there for all once it is `complete`. Until then its sections are written by whoever parses
the file and holds a job for it (`jobs.hold_job`, first in the transaction); two who do so at once
write the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import InvalidField
from services.store.jobs import IngestJob
from services.store.store import Tx
from services.store.versions import refer

_COLUMNS = "text_key, title, media_type, page_count, characters, sections, complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredText:
    """A parsed document, without its sections."""

    text_key: bytes
    title: str = ""
    media_type: str = ""
    page_count: int = 0
    characters: int = 0
    sections: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSection:
    """The characters of a text from `start` on. `blocks` is JSON, as the parser's caller wrote
    it."""

    section_index: int
    start: int
    text: str
    blocks: str


async def begin_text(tx: Tx, job: IngestJob, text_key: bytes) -> StoredText:
    """Refer to the text that a job's parsing makes, complete or not. Raises as `versions.refer`."""
    text = await tx.one(
        StoredText,
        "INSERT INTO texts (tenant, text_key, title, media_type, page_count) "
        "VALUES (%s, %s, '', '', 0) "
        "ON CONFLICT (tenant, text_key) DO UPDATE SET title = texts.title "
        f"RETURNING {_COLUMNS}",
        (tx.tenant, text_key),
    )
    assert text is not None
    await refer(tx, job, text_key=text_key)
    return text


async def is_begun(tx: Tx, text_key: bytes) -> bool:
    """Whether a text is stored, or is being made."""
    row = await tx.row(
        "SELECT FROM texts WHERE tenant = %s AND text_key = %s", (tx.tenant, text_key)
    )
    return row is not None


async def put_whole(tx: Tx, text: StoredText, only: TextSection) -> None:
    """Store a text with its only section, complete; one that is there or begun has the same. Its
    row stays locked until the commit. Raises InvalidField for U+0000."""
    _require_storable(text, only)
    await tx.run(
        "WITH section AS (INSERT INTO text_sections (tenant, text_key, section_index, start, text, "
        "blocks) VALUES (%(tenant)s, %(key)s, 0, 0, %(text)s, %(blocks)s::json) "
        "ON CONFLICT DO NOTHING) "
        "INSERT INTO texts (tenant, text_key, title, media_type, page_count, characters, sections, "
        "complete) VALUES (%(tenant)s, %(key)s, %(title)s, %(media_type)s, %(page_count)s, "
        "%(characters)s, 1, true) ON CONFLICT (tenant, text_key) DO UPDATE SET "
        "title = excluded.title, media_type = excluded.media_type, "
        "page_count = excluded.page_count, characters = excluded.characters, sections = 1, "
        "complete = true",
        {
            "tenant": tx.tenant,
            "key": text.text_key,
            "title": text.title,
            "media_type": text.media_type,
            "page_count": text.page_count,
            "characters": text.characters,
            "text": only.text,
            "blocks": only.blocks,
        },
    )


async def put_section(tx: Tx, text_key: bytes, section: TextSection) -> None:
    """Store a section unless it is stored. Raises InvalidField for U+0000."""
    _require_storable(None, section)
    await tx.run(
        "INSERT INTO text_sections (tenant, text_key, section_index, start, text, blocks) "
        "VALUES (%s, %s, %s, %s, %s, %s::json) ON CONFLICT DO NOTHING",
        (
            *(tx.tenant, text_key, section.section_index, section.start),
            *(section.text, section.blocks),
        ),
    )


async def complete_text(tx: Tx, text: StoredText) -> None:
    """Say what is known of the whole text, after its last section. Raises as `put_section`."""
    _require_storable(text, None)
    await tx.run(
        "UPDATE texts SET title = %s, media_type = %s, page_count = %s, characters = %s, "
        "sections = %s, complete = true WHERE tenant = %s AND text_key = %s",
        (
            *(text.title, text.media_type, text.page_count, text.characters, text.sections),
            *(tx.tenant, text.text_key),
        ),
    )


async def get_text(tx: Tx, text_key: bytes) -> StoredText | None:
    """None where it is not stored, or not complete."""
    return await tx.one(
        StoredText,
        f"SELECT {_COLUMNS} FROM texts WHERE tenant = %s AND text_key = %s AND complete",
        (tx.tenant, text_key),
    )


async def get_section(tx: Tx, text_key: bytes, section_index: int) -> TextSection | None:
    """None where it is not stored."""
    return await tx.one(
        TextSection,
        "SELECT section_index, start, text, blocks::text AS blocks FROM text_sections "
        "WHERE tenant = %s AND text_key = %s AND section_index = %s",
        (tx.tenant, text_key, section_index),
    )


def _require_storable(text: StoredText | None, section: TextSection | None) -> None:
    if section is not None and "\0" in section.text:
        raise InvalidField("the parsed text contains U+0000, which cannot be stored; remove it")
    if text is not None and "\0" in text.title:
        raise InvalidField("the title contains U+0000, which cannot be stored; remove it")
