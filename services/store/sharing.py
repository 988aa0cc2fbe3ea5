"""What documents with the same content share goes when the last of them goes.

Who shares is read from `documents`; there are no counters to drift. It is safe because a
transaction that makes a document refer to a shared row holds that row's lock until its commit
(`contents.name_content`, `passages.put_text`, `passages.put_passages`), and `release` takes the
lock first and looks for references with a later view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.store.store import Tx

COLUMNS = "content_sha256, text_key, passage_set_key"


@dataclass(frozen=True, slots=True)
class Shares:
    """Keys of the shared rows that one document referred to."""

    content_sha256: bytes
    text_key: bytes | None
    passage_set_key: bytes | None


async def release(tx: Tx, gone: Sequence[Shares]) -> None:
    """Remove what documents no longer refer to. The documents' rows must be changed already."""
    await _release_files(tx, sorted({share.content_sha256 for share in gone}))
    await _release(
        tx,
        "texts",
        "text_key",
        "text_key",
        None,
        sorted({share.text_key for share in gone if share.text_key}),
    )
    await _release(
        tx,
        "passage_sets",
        "passage_set_key",
        "passage_set_key",
        "passages",
        sorted({share.passage_set_key for share in gone if share.passage_set_key}),
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
        "  DELETE FROM contents c WHERE c.tenant = %(tenant)s AND c.sha256 = ANY(%(keys)s) "
        "  AND NOT EXISTS (SELECT FROM documents d "
        "    WHERE d.tenant = c.tenant AND d.content_sha256 = c.sha256) "
        "  RETURNING c.sha256, c.object"
        "), pieces AS ("
        "  DELETE FROM content_chunks p USING unused "
        "  WHERE p.tenant = %(tenant)s AND p.sha256 = unused.sha256"
        ") INSERT INTO condemned_files (sha256) SELECT object FROM unused "
        "WHERE object IS NOT NULL ORDER BY object ON CONFLICT DO NOTHING",
        params,
    )


async def _release(
    tx: Tx, table: str, key: str, reference: str, parts: str | None, keys: list[bytes]
) -> None:
    if not keys:
        return
    params = {"tenant": tx.tenant, "keys": keys}
    await tx.rows(
        f"SELECT 1 FROM {table} WHERE tenant = %(tenant)s AND {key} = ANY(%(keys)s) "
        f"ORDER BY {key} FOR UPDATE",
        params,
    )
    unused = (
        f"DELETE FROM {table} s WHERE s.tenant = %(tenant)s AND s.{key} = ANY(%(keys)s) "
        f"AND NOT EXISTS (SELECT FROM documents d "
        f"WHERE d.tenant = s.tenant AND d.{reference} = s.{key}) RETURNING s.{key}"
    )
    if parts is not None:
        unused = (
            f"WITH unused AS ({unused}) DELETE FROM {parts} p USING unused "
            f"WHERE p.tenant = %(tenant)s AND p.{key} = unused.{key}"
        )
    await tx.run(unused, params)
