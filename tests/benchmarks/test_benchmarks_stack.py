"""The usual stack beside us does the same work, over the same kind of API, by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from benchmarks.bench import Bench, Options
from benchmarks.data import RetrievalSet, Text
from benchmarks.peers.usual_stack import CHARACTERS, COMMON, answered, make_app, passages
from benchmarks.suites.stack import OURS, THEIRS, Found, measured, report, sent, theirs

WORDS = ("whales", "sing", "trains", "run")


def _rows(texts: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([[one.lower().count(word) for word in WORDS] for one in texts], float)


class _Collection:
    """As much of Chroma's collection as the service uses, by counted words."""

    def __init__(self) -> None:
        self.texts: dict[str, tuple[str, dict[str, str]]] = {}

    def upsert(
        self, ids: Sequence[str], documents: Sequence[str], metadatas: Sequence[dict[str, str]]
    ) -> None:
        self.texts |= {k: (t, m) for k, t, m in zip(ids, documents, metadatas, strict=True)}

    def query(self, query_texts: list[str], n_results: int) -> Mapping[str, list[list[Any]]]:
        ids = list(self.texts)
        scores = _rows([self.texts[one][0] for one in ids]) @ _rows(query_texts)[0]
        best = [ids[row] for row in np.argsort(-scores, kind="stable")[:n_results]]
        return {
            "ids": [best],
            "documents": [[self.texts[one][0] for one in best]],
            "metadatas": [[self.texts[one][1] for one in best]],
            "distances": [[0.5 for _ in best]],
        }


DOCUMENTS = [
    {"id": "doc-1", "title": "At sea", "text": "Whales sing. They sing at night. Some run."},
    {"id": "doc-2", "title": "On land", "text": "Trains run on rails."},
]


def test_the_usual_stack_ingests_searches_and_answers_over_rest() -> None:
    with TestClient(make_app(_Collection(), _rows)) as http:
        assert http.post("/documents", json={"documents": DOCUMENTS}).json() == {"passages": 2}
        assert http.post("/documents", json={"documents": DOCUMENTS}).json() == {"passages": 2}
        hits = http.post("/search", json={"query": "who sing", "limit": 10}).json()["hits"]
        assert [one["document"] for one in hits] == ["doc-1", "doc-2"]
        answer = http.post("/ask", json={"question": "When do whales sing?"}).json()
        assert answer["sources"] == ["doc-1", "doc-2"]
        assert "Whales sing." in answer["answer"]
        for path, body in (
            ("/search", {"query": "a", "limit": 0}),
            ("/search", {"limit": 1}),
            ("/ask", {}),
            ("/documents", {"documents": "a"}),
        ):
            assert http.post(path, json=body).status_code == 422


@pytest.mark.parametrize("length", [0, 1, CHARACTERS, CHARACTERS + 1, 5_000])
def test_passages_hold_all_of_a_text_with_an_overlap(length: int) -> None:
    text = "".join(chr(97 + n % 26) for n in range(length))
    found = passages(text)
    assert found[0] + "".join(one[COMMON:] for one in found[1:]) == text
    assert all(len(one) <= CHARACTERS for one in found)


def test_nothing_is_answered_from_nothing() -> None:
    assert answered("Who?", [], _rows) == ""
    assert answered("Who?", ["  "], _rows) == ""


class _Served(BaseHTTPRequestHandler):
    """The peer's service, behind a plain HTTP server, with FastAPI's own routing."""

    protocol_version = "HTTP/1.1"
    app: TestClient

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        reply = self.app.post(self.path, content=body, headers={"content-type": "application/json"})
        self.send_response(reply.status_code)
        self.send_header("Content-Length", str(len(reply.content)))
        self.end_headers()
        self.wfile.write(reply.content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def served() -> Iterator[str]:
    with TestClient(make_app(_Collection(), _rows)) as app:
        handler = type("_App", (_Served,), {"app": app})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_side_is_measured_over_its_rest_api(served: str) -> None:
    texts = [Text("1", "At sea", "Whales sing."), Text("2", "On land", "Trains run.")]
    data = RetrievalSet(
        texts, {"a": "whales", "b": "trains"}, {"test": {"a": {"1": 1}, "b": {"2": 1}}}
    )
    side = theirs(served, pid=1)
    with Bench(Options(quick=True), lambda _: None) as bench:
        found = measured(bench, {THEIRS: side}, data)[THEIRS]
    assert found.ndcg == 1
    assert min(found.ingested_per_s, found.searches_per_s, found.questions_per_s) > 0


def test_replies_come_in_the_order_of_the_requests_and_a_refusal_ends_the_run(served: str) -> None:
    requests = [("/documents", {"documents": DOCUMENTS[:1] * n}) for n in range(1, 12)]
    assert [reply["passages"] for reply in sent(served, requests)] == list(range(1, 12))
    with pytest.raises(ConnectionError, match="422"):
        sent(served, [("/ask", {})])


def test_both_sides_make_ratios_and_one_alone_makes_figures() -> None:
    mine, other = Found(30, 400, 20, 0.72, 700), Found(10, 80, 40, 0.645, 1_400)
    both = report({OURS: mine, THEIRS: other}, {})
    assert {one.name: round(one.value, 3) for one in both.targets} == {
        "stack_search_rate_over_usual": 5,
        "stack_ingest_rate_over_usual": 3,
        "stack_memory_over_usual": 0.5,
        "stack_ndcg10_above_usual": 0.075,
    }
    assert len(both.comparisons) == 5
    alone = report({OURS: mine}, {"not run": "usual_stack is not installed"})
    assert all(np.isnan(one.value) for one in alone.targets)
    assert [one.value for one in alone.figures] == [30, 400, 20, 0.72, 700]
