"""Nodes may be killed at any moment while documents come in: each acknowledged document becomes
searchable once, whole, and nothing is left of half-done work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
import ragmesh
from ragmesh import AsyncClient

from tests.faults.faulty_mesh import NODES, Door, FaultyMesh
from tests.faults.papers import Paper, papers
from tests.faults.soak import seeds

DONE_S = 90.0
_ORPHANS = {
    "points of no document": "SELECT count(*) FROM points p WHERE p.document IS NOT NULL AND NOT "
    "EXISTS (SELECT FROM documents d WHERE d.tenant = p.tenant "
    "AND d.collection_uid = p.collection_uid AND d.id = p.document AND d.state = 'active')",
    "passages of no set": "SELECT count(*) FROM passages p WHERE NOT EXISTS "
    "(SELECT FROM passage_sets s WHERE s.tenant = p.tenant "
    "AND s.passage_set_key = p.passage_set_key)",
    "sets of no document": "SELECT count(*) FROM passage_sets s WHERE NOT EXISTS "
    "(SELECT FROM documents d WHERE d.tenant = s.tenant "
    "AND d.passage_set_key = s.passage_set_key)",
    "texts of no document": "SELECT count(*) FROM texts t WHERE NOT EXISTS "
    "(SELECT FROM documents d WHERE d.tenant = t.tenant AND d.text_key = t.text_key)",
    "files of no document": "SELECT count(*) FROM contents c WHERE NOT EXISTS "
    "(SELECT FROM documents d WHERE d.tenant = c.tenant AND d.content_sha256 = c.sha256)",
    "sections of no text": "SELECT count(*) FROM text_sections x WHERE NOT EXISTS "
    "(SELECT FROM texts t WHERE t.tenant = x.tenant AND t.text_key = x.text_key)",
    "versions that wait for nothing": "SELECT count(*) FROM document_versions",
    "pieces of no file": "SELECT count(*) FROM content_chunks k WHERE NOT EXISTS "
    "(SELECT FROM contents c WHERE c.tenant = k.tenant AND c.sha256 = k.sha256)",
    "documents short of passages": "SELECT count(*) FROM documents d WHERE d.state = 'active' "
    "AND (d.passages, d.passages) <> (SELECT count(*), count(DISTINCT p.passage_index) "
    "FROM points p WHERE p.tenant = d.tenant AND p.collection_uid = d.collection_uid "
    "AND p.document = d.id)",
    "points whose passage is missing": "SELECT count(*) FROM points p WHERE p.passage_set_key "
    "IS NOT NULL AND NOT EXISTS (SELECT FROM passages s WHERE s.tenant = p.tenant "
    "AND s.passage_set_key = p.passage_set_key AND s.passage_index = p.passage_index)",
}
"""What must not be there, and how many there are."""


@pytest.mark.parametrize("seed", seeds())
async def test_what_was_acknowledged_is_searchable_once_and_whole(
    mesh: FaultyMesh, seed: int
) -> None:
    random_ = random.Random(seed)
    collection, sent = f"kills-{seed}", papers(random_, 16)
    async with mesh.client() as client:
        await client.create_collection(collection)
        sending = asyncio.create_task(_send(client, collection, sent))
        for name in random_.sample(NODES, 2):
            await asyncio.sleep(random_.uniform(0.2, 1.2))
            mesh.kill(name)
        acknowledged = await sending
        await _until_done(client, acknowledged)
        await mesh.whole()
        for what, query in _ORPHANS.items():
            assert await mesh.rows(query) == [(0,)], what
        documents = [document async for document in client.list_documents(collection)]
        assert sorted(d.name.rpartition("/")[2] for d in documents) == sorted(acknowledged)
        assert {document.state for document in documents} == {"active"}
        table = await mesh.rows(
            "SELECT p.id FROM points p JOIN collections c ON c.uid = p.collection_uid "
            "WHERE c.id = %s",
            collection,
        )
        assert len(table) == sum(document.passages for document in documents)
    for door in NODES:
        await _check_index(mesh, door, collection, sent, {row[0] for row in table})


async def _send(client: AsyncClient, collection: str, sent: Sequence[Paper]) -> dict[str, str]:
    """Stores every paper, however often a node dies under it; the jobs by document id."""
    jobs: dict[str, str] = {}
    for paper in sent:
        request_id = f"00000000-0000-4000-8000-{random.getrandbits(48):012x}"
        async with asyncio.timeout(60):
            while paper.id not in jobs:
                try:
                    stored = await client.create_document(
                        collection, text=paper.text, document_id=paper.id, request_id=request_id
                    )
                    jobs[paper.id] = stored.ingest_job.name
                except ragmesh.Unavailable:
                    await asyncio.sleep(0.1)
    return jobs


async def _until_done(client: AsyncClient, jobs: dict[str, str]) -> None:
    async with asyncio.timeout(DONE_S):
        for name in jobs.values():
            while True:
                try:
                    job = await client.get_ingest_job(name)
                except ragmesh.Unavailable:
                    job = None
                if job is not None and job.done:
                    assert job.state == "succeeded", repr(job.error)
                    break
                await asyncio.sleep(0.2)


async def _check_index(
    mesh: FaultyMesh, door: Door, collection: str, sent: Sequence[Paper], wanted: set[str]
) -> None:
    """A node's index holds what the table holds, and every paper is found by its marker."""
    head = (
        await mesh.rows(
            "SELECT h.seq FROM heads h JOIN collections c ON c.uid = h.collection_uid "
            "WHERE c.id = %s",
            collection,
        )
    )[0][0]
    async with mesh.client(door) as client:
        listed = [p.id async for p in client.list_points(collection, min_watermark=str(head))]
        assert len(listed) == len(set(listed))
        assert set(listed) == wanted
        for paper in sent:
            found = await client.search_collection(collection, paper.marker, mode="lexical")
            documents = {hit.point.document.rpartition("/")[2] for hit in found.hits}
            assert documents == {paper.id}
