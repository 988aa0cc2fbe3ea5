"""What documents with the same content share goes when the last of them goes.

Who shares is read from `documents` and `document_versions`; there are no counters to drift. It is
safe because a transaction that makes one of them refer to a shared row holds that row's lock until
its commit (`contents.name_content`, `texts.begin_text`, `passages.begin_passages`), and `release`
takes the lock first and looks for references with a later view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.store.store import Tx

COLUMNS = "content_sha256, text_key, passage_set_key"


@dataclass(frozen=True, slots=True)
class Shares:
    """Keys of the shared rows that one document, or one version of it, referred to."""

    content_sha256: bytes | None
    text_key: bytes | None
    passage_set_key: bytes | None


async def release(tx: Tx, gone: Sequence[Shares]) -> None:
    """Remove what documents no longer refer to. The documents' rows must be changed already."""
    files = {share.content_sha256 for share in gone if share.content_sha256}
    texts = {share.text_key for share in gone if share.text_key}
    sets = {share.passage_set_key for share in gone if share.passage_set_key}
    await _release_files(tx, sorted(files))
    await _release(tx, "texts", "text_key", "text_sections", sorted(texts))
    await _release(tx, "passage_sets", "passage_set_key", "passages", sorted(sets))


def _unused(table: str, key: str, reference: str) -> str:
    """The condition on a row of `table` that nothing refers to it."""
    return " AND ".join(
        f"NOT EXISTS (SELECT FROM {by} d WHERE d.tenant = {table}.tenant "
        f"AND d.{reference} = {table}.{key})"
        for by in ("documents", "document_versions")
    )


async def _release_files(tx: Tx, keys: list[bytes]) -> None:
    """Files, their pieces where they are still in rows, and their objects, which are condemned."""
    if not keys:
        return
    params = {"tenant": tx.tenant, "keys": keys}
    await tx.rows(
        "SELECT 1 FROM contents WHERE tenant = %(tenant)s AND sha256 = ANY(%(keys)s) "
        "ORDER BY sha256 FOR UPDATE",
        params,
    )
    await tx.run(
        "WITH unused AS ("
        "  DELETE FROM contents WHERE tenant = %(tenant)s AND sha256 = ANY(%(keys)s) "
        f"  AND {_unused('contents', 'sha256', 'content_sha256')} "
        "  RETURNING sha256, object"
        "), pieces AS ("
        "  DELETE FROM content_chunks p USING unused "
        "  WHERE p.tenant = %(tenant)s AND p.sha256 = unused.sha256"
        ") INSERT INTO condemned_files (sha256) SELECT object FROM unused "
        "WHERE object IS NOT NULL ORDER BY object ON CONFLICT DO NOTHING",
        params,
    )


async def _release(tx: Tx, table: str, key: str, parts: str, keys: list[bytes]) -> None:
    """Rows of `table`, and their parts."""
    if not keys:
        return
    params = {"tenant": tx.tenant, "keys": keys}
    await tx.rows(
        f"SELECT 1 FROM {table} WHERE tenant = %(tenant)s AND {key} = ANY(%(keys)s) "
        f"ORDER BY {key} FOR UPDATE",
        params,
    )
    await tx.run(
        f"WITH unused AS (DELETE FROM {table} WHERE tenant = %(tenant)s "
        f"AND {key} = ANY(%(keys)s) AND {_unused(table, key, key)} RETURNING {key}) "
        f"DELETE FROM {parts} p USING unused "
        f"WHERE p.tenant = %(tenant)s AND p.{key} = unused.{key}",
        params,
    )
