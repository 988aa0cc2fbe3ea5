"""From files to searchable passages, beside the embedding of the same passages and nothing else.

Both go to one node of one mesh, one after the other: SciFact's abstracts as Markdown files, sent by
eight callers, and then their passages, with what stood before each, as texts of EmbedTexts in the
bulk lane with the sentences that passages bring.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from ragmesh import Client

from benchmarks.bench import Bench
from benchmarks.mesh import running_mesh
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.suites.ingest.material import Ingested, abstracts, ingest_files, written_as_markdown
from engine.documents.embedding import embedding_text

COLLECTION = "files"
TEXTS = 32
"""Of one request, as many as the pipeline sends at most."""
REQUESTS = 4
"""On their way at once."""
QUICK_FILES = 300
WARM_TEXTS = 64


def run(bench: Bench) -> SuiteReport:
    """Raises DataMissing without SciFact."""
    texts = abstracts(quick=bench.quick)[: QUICK_FILES if bench.quick else None]
    with running_mesh() as mesh, tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder:
        paths = written_as_markdown(texts, Path(folder))
        address = mesh.addresses.nodes[0]
        with Client(address, lane="bulk", timeout_s=120) as client:
            client.embed_texts([f"Words of a text to begin with, {n}." for n in range(WARM_TEXTS)])
            bench.say(f"ingesting {len(paths):,} Markdown files")
            ingested = ingest_files(address, COLLECTION, paths)
            passages = list(_passages(client))
            bench.say(f"embedding their {len(passages):,} passages again, and nothing else")
            plain_s = _embedded(client, passages, sentences=False)
            same_s = _embedded(client, passages, sentences=True)
    return _report(ingested, len(passages), plain_s, same_s)


def _passages(client: Client) -> Iterator[str]:
    """What the model read of each passage: the text, after the headings that are not in it."""
    for document in client.list_documents(COLLECTION, page_size=1_000):
        for passage in client.list_passages(document.name, page_size=1_000):
            lines = passage.text.split("\n")
            headings = [one for one in passage.heading_path if one not in lines]
            yield embedding_text(passage.text, " > ".join(headings))


def _embedded(client: Client, texts: Sequence[str], *, sentences: bool) -> float:
    """Seconds for all texts."""

    def embed(part: list[str]) -> None:
        client.embed_texts(part, truncate=True, include_sentences=sentences)

    rest = iter(texts)
    parts = iter(lambda: list(islice(rest, TEXTS)), [])
    begin_s = time.perf_counter()
    with ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(embed, parts))
    return time.perf_counter() - begin_s


def _report(ingested: Ingested, passages: int, plain_s: float, same_s: float) -> SuiteReport:
    ours = Figure("files ingested", ingested.passages / ingested.seconds, "passages/s")
    same = Figure("the same passages embedded", passages / same_s, "passages/s", "with sentences")
    plain = Figure("embedded without sentences", passages / plain_s, "passages/s")
    return SuiteReport(
        suite="ingest",
        setting={"files ingested": ingested.documents, "passages": passages},
        figures=[
            plain,
            Figure("files", ingested.documents / ingested.seconds, "files/s"),
            Figure("files that failed", ingested.failed, ""),
        ],
        comparisons=[Comparison("end to end over embedding", ours, same)],
        targets=[
            Target("ingest_share_of_embedding", ours.value / same.value),
            Target("ingest_files_failed", ingested.failed),
        ],
    )
