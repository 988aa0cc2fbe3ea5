"""SciFact in the mesh, and the passages that fused search finds for its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ragmesh import Client, Point, Reranking

from benchmarks.data import RetrievalSet, Text
from benchmarks.metrics import Qrels

COLLECTION = "scifact"
WRITERS = 2
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the first stage found for one query, the best first, with its scores."""

    documents: tuple[str, ...]
    scores: tuple[float, ...]


def upsert(client: Client, documents: Sequence[Text], collection: str = COLLECTION) -> None:
    """One point a document, embedded by the service; the next batch waits while one is embedded."""
    batches = [documents[at : at + _BATCH] for at in range(0, len(documents), _BATCH)]

    def write(batch: Sequence[Text]) -> None:
        points = [Point(one.id, text=passage(one)) for one in batch]
        client.upsert_points(collection, points, lane="bulk", timeout_s=300)

    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(write, batches))


def ingest(client: Client, documents: Sequence[Text], collection: str) -> None:
    """The same texts as documents; returns when all can be found."""
    jobs = [
        client.create_document(
            collection,
            text=f"{one.title}\n\n{one.text}",
            document_id=document_id(one.id),
            display_name=one.title[:200],
            lane="bulk",
        ).ingest_job.name
        for one in documents
    ]
    for job in jobs:
        client.wait_for_ingest_job(job, timeout_s=3_600)


def document_id(name: str) -> str:
    """A data set's id as the contract has them."""
    return f"doc-{name.lower().replace('_', '-')}"


def passage(document: Text) -> str:
    """A document as it is embedded and reranked."""
    return f"{document.title} {document.text}"


def candidates(
    client: Client, data: RetrievalSet, qrels: Qrels, count: int
) -> dict[str, Candidates]:
    """The first `count` of fused search for every judged query."""
    found = {}
    for query in qrels:
        hits = client.search_collection(
            COLLECTION, data.queries[query], mode="hybrid", limit=count, ids_only=True
        ).hits
        found[query] = Candidates(
            tuple(hit.point.id for hit in hits), tuple(hit.score for hit in hits)
        )
    return found


def rerank(
    client: Client,
    query: str,
    found: Candidates,
    texts: Mapping[str, str],
    *,
    prior: bool = True,
    timeout_s: float | None = None,
) -> Reranking:
    """RerankPassages over candidates, with the first stage's scores or without."""
    return client.rerank_passages(
        query,
        [texts[document] for document in found.documents],
        prior_scores=found.scores if prior else (),
        truncate=True,
        timeout_s=timeout_s,
    )


def order(found: Candidates, reranking: Reranking) -> list[str]:
    """The candidates in their new order."""
    return [found.documents[one.index] for one in reranking.passages]
