"""The suite `quality`: its data sets as they lie on disk, what counts as found, what is judged."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from ragmesh import Point, SearchHit, SearchResult, SearchTimings

from benchmarks.data import DataMissing, cranfield, squad
from benchmarks.fused import document_id
from benchmarks.suites.quality import Scores, named, scifact_targets
from benchmarks.targets import read_targets


def _lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())


def test_squads_questions_are_drawn_once_and_for_all_with_their_paragraphs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAGMESH_DATA", str(tmp_path))
    folder = tmp_path / "squad" / "v1.1-retrieval"
    _lines(folder / "corpus.jsonl.gz", [{"_id": "p", "title": "T", "text": "x"}])
    _lines(folder / "queries.jsonl.gz", [{"_id": str(n), "text": f"q{n}"} for n in range(50)])
    rows = "".join(f"{n}\tp\t1\n" for n in range(50))
    (folder / "qrels_test.tsv.gz").write_bytes(
        gzip.compress(f"query-id\tcorpus-id\tscore\n{rows}".encode())
    )
    data = squad(queries=7)
    assert len(data.qrels["test"]) == 7
    assert squad(queries=7) == data
    assert all(judged == {"p": 1} for judged in data.qrels["test"].values())
    assert len(squad().qrels["test"]) == 50


def test_cranfields_empty_abstracts_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAGMESH_DATA", str(tmp_path))
    folder = tmp_path / "classic-ir" / "cranfield"
    texts = [{"_id": str(n), "title": "", "text": text} for n, text in enumerate(("a", " ", "b"))]
    _lines(folder / "corpus.jsonl.gz", texts)
    _lines(folder / "queries.jsonl", [{"_id": "1", "text": "q"}])
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t0\t4\n")
    data = cranfield()
    assert [one.id for one in data.documents] == ["0", "2"]
    assert data.qrels == {"test": {"1": {"0": 4}}}


def test_a_set_that_is_missing_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGMESH_DATA", "/nowhere")
    for read, place in ((cranfield, "classic-ir/cranfield"), (squad, "squad/v1.1-retrieval")):
        with pytest.raises(DataMissing, match=rf"\$RAGMESH_DATA/{place}.*is /nowhere"):
            read()


def test_passages_count_for_their_document_once_at_the_best_place() -> None:
    def hit(id: str, document: str = "") -> SearchHit:
        name = f"collections/c/documents/{document}" if document else ""
        return SearchHit(Point(id, document=name), 1.0, None, None)

    ids = {document_id(one): one for one in ("4983", "Super_Bowl_50_0")}
    hits = [hit("x", document_id("4983")), hit("y", document_id("4983")), hit("plain")]
    found = SearchResult(tuple(hits), "1", SearchTimings(0, 0, 0), None)
    assert named(found, ids) == ["4983", "plain"]


def test_scifacts_targets_are_differences_of_the_test_scores() -> None:
    scores = {
        "dense": Scores(0.6461, 0.9),
        "lexical": Scores(0.69, 0.9),
        "fused": Scores(0.72, 0.9),
        "reranked": Scores(0.721, 0.9),
    }
    judged = read_targets().judge(scifact_targets(scores, 5_000))
    found = {one.target.name: (round(one.target.value, 4), one.verdict) for one in judged}
    assert found == {
        "quality_dense_ndcg10_off_published": (0.001, "met"),
        "quality_lexical_ndcg10": (0.69, "met"),
        "quality_fused_over_better_leg": (0.03, "met"),
        "quality_rerank_over_fused": (0.001, "missed"),
        "quality_rerank_bytes_a_passage": (5_000, "missed"),
    }
