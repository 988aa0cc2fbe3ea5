"""A version becomes the document that is searched: its points, its row, its job in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.documents.numbering import numbered
from engine.errors import StoreUnavailable
from services.store import jobs, passages, sharing, texts
from services.store.collections import Collection
from services.store.documents import Document, get_document, passage_point_id, payload_json
from services.store.passages import PassageRow, PassageSet
from services.store.points import Commit, PointRow, apply_batch
from services.store.sharing import Shares
from services.store.store import Tx
from services.store.texts import StoredText, TextSection
from services.store.versions import Version, get_version


@dataclass(frozen=True, slots=True)
class LastPassages:
    """What is stored in the transaction that publishes, rather than in one before: the passages
    that complete a set, and how far it is with them."""

    rows: Sequence[passages.PassageRow]
    after: passages.PassageSet


@dataclass(frozen=True, slots=True)
class Whole:
    """All that was made of a short document, none of it stored yet."""

    text: StoredText
    section: TextSection
    passages: PassageSet
    rows: Sequence[PassageRow]


async def publish_document(
    tx: Tx, collection: Collection, job: jobs.IngestJob, last: LastPassages | None = None
) -> Commit:
    """Make a job's version the document that is searched, in one commit, and the job succeed.

    Passages that were there before keep their points' ids. Raises DocumentNotFound where it was
    deleted or got a newer version, FailedPrecondition where the job is not this worker's any more,
    and StoreUnavailable where what its stages made is not whole: make it and try again.
    """
    before = await get_document(tx, collection, job.document_id, lock=True)
    await jobs.hold_job(tx, job)
    if last is not None:
        await passages.put_passages(tx, last.after.passage_set_key, last.rows)
        await passages.end_section(tx, last.after)
    version = await get_version(tx, job)
    made = await tx.one(_Made, _MADE, (tx.tenant, version.text_key, version.passage_set_key))
    if made is None:
        raise StoreUnavailable("what was made of the document is not whole; try again")
    return await _publish(tx, collection, job, before, version, made)


async def publish_whole(
    tx: Tx, collection: Collection, job: jobs.IngestJob, version: Version, whole: Whole
) -> Commit:
    """As `publish_document`, of a version of which no stage stored anything."""
    before = await get_document(tx, collection, job.document_id, lock=True)
    # Who holds the job has the version that it had: another one cancels the job first.
    await jobs.hold_job(tx, job)
    text, made_of = whole.text, whole.passages
    await texts.put_whole(tx, text, whole.section)
    await passages.put_set(tx, made_of)
    await passages.put_passages(tx, made_of.passage_set_key, whole.rows)
    version = replace(version, text_key=text.text_key, passage_set_key=made_of.passage_set_key)
    made = _Made(text.title, text.media_type, text.characters, made_of.passages)
    return await _publish(tx, collection, job, before, version, made)


async def _publish(
    tx: Tx,
    collection: Collection,
    job: jobs.IngestJob,
    before: Document,
    version: Version,
    made: _Made,
) -> Commit:
    """The document is locked, the job held, what was made of the version is stored."""
    assert version.text_key is not None and version.passage_set_key is not None
    numbering = await _numbering(tx, collection, before, version.passage_set_key, made.passages)
    points = [
        PointRow(
            id=passage_point_id(before.id, number),
            payload=version.payload,
            document=before.id,
            passage_index=index,
            passage_set_key=version.passage_set_key,
        )
        for index, number in enumerate(numbering.numbers)
    ]
    await _become(tx, collection, before.id, version, made, numbering.next_number)
    if before.text_key is not None:
        shares = Shares(before.content_sha256, before.text_key, before.passage_set_key)
        await sharing.release(tx, [shares])
    commit = await apply_batch(tx, collection, points, numbering.gone)
    await jobs.succeed_job(tx, job, made.passages, commit.seq)
    return commit


async def _become(
    tx: Tx,
    collection: Collection,
    document_id: str,
    version: Version,
    made: _Made,
    next_number: int,
) -> None:
    """The document is what its version says, which is none any more."""
    await tx.run(
        "WITH gone AS (DELETE FROM document_versions WHERE tenant = %(tenant)s "
        "AND collection_uid = %(uid)s AND document_id = %(id)s) "
        "UPDATE documents SET state = 'active', display_name = %(display_name)s, "
        "media_type = %(media_type)s, source_uri = %(source_uri)s, payload = %(payload)s::json, "
        "size_bytes = %(size_bytes)s, content_sha256 = %(sha256)s, text_key = %(text_key)s, "
        "passage_set_key = %(set_key)s, passages = %(passages)s, next_number = %(next)s, "
        "title = %(title)s, text_characters = %(characters)s, update_time = now() "
        "WHERE tenant = %(tenant)s AND collection_uid = %(uid)s AND id = %(id)s",
        {
            "tenant": tx.tenant,
            "uid": collection.home_uid,
            "id": document_id,
            "display_name": version.display_name,
            "media_type": made.media_type,
            "source_uri": version.source_uri,
            "payload": payload_json(version.payload),
            "size_bytes": version.size_bytes,
            "sha256": version.content_sha256,
            "text_key": version.text_key,
            "set_key": version.passage_set_key,
            "passages": made.passages,
            "next": next_number,
            "title": made.title,
            "characters": made.characters,
        },
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """A text and its passages, both complete."""

    title: str
    media_type: str
    characters: int
    passages: int


_MADE = (
    "SELECT t.title, t.media_type, t.characters, s.passages FROM texts t "
    "JOIN passage_sets s ON s.tenant = t.tenant AND s.complete "
    "WHERE t.tenant = %s AND t.text_key = %s AND t.complete AND s.passage_set_key = %s"
)


@dataclass(frozen=True, slots=True)
class _Numbering:
    """The numbers of a document's passages, in the text's order; the next free one; the ids of the
    points that go."""

    numbers: Sequence[int]
    next_number: int
    gone: Sequence[str] = ()


async def _numbering(
    tx: Tx, collection: Collection, before: Document, passage_set_key: bytes, count: int
) -> _Numbering:
    if before.next_number == 0:
        return _Numbering(range(count), count)
    old = await _numbers(tx, collection, before.id)
    now = await _digests(tx, passage_set_key)
    known = [(number, digest) for number, _, digest in old]
    numbers, next_number = numbered(known, now, before.next_number)
    kept = set(numbers)
    gone = [point_id for number, point_id, _ in old if number not in kept]
    return _Numbering(numbers, next_number, gone)


async def _numbers(
    tx: Tx, collection: Collection, document_id: str
) -> list[tuple[int, str, bytes]]:
    """Numbers and ids of a document's points, with hashes of their texts, in the text's order."""
    rows = await tx.rows(
        "SELECT p.id, sha256(convert_to(s.text, 'UTF8')) FROM points p JOIN passages s "
        "ON s.tenant = p.tenant AND s.passage_set_key = p.passage_set_key "
        "AND s.passage_index = p.passage_index "
        "WHERE p.tenant = %s AND p.collection_uid = %s AND p.document = %s "
        "ORDER BY p.passage_index",
        (tx.tenant, collection.uid, document_id),
    )
    return [(int(row[0].rpartition("#")[2]), row[0], row[1]) for row in rows]


async def _digests(tx: Tx, passage_set_key: bytes) -> list[bytes]:
    """Hashes of the texts of a set's passages, in their order."""
    rows = await tx.rows(
        "SELECT sha256(convert_to(text, 'UTF8')) FROM passages "
        "WHERE tenant = %s AND passage_set_key = %s ORDER BY passage_index",
        (tx.tenant, passage_set_key),
    )
    return [row[0] for row in rows]
