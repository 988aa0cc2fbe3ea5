"""The parts under the suites: the small HTTP client, the data, the command line."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.bench import Bench
from benchmarks.data import (
    DataMissing,
    demo_files,
    demo_questions,
    demo_texts,
    read_beir,
    scifact,
)
from benchmarks.http import HttpConnection
from benchmarks.report import SuiteReport
from benchmarks.suites import SUITES

ROOT = Path(__file__).parents[2]


class _Echo(BaseHTTPRequestHandler):
    """Sends the body back: whole for `/whole`, in chunks for `/chunks`, else refused."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200 if self.path in ("/whole", "/chunks") else 404)
        self.send_header("x-client", str(self.client_address[1]))
        if self.path != "/chunks":
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(body), 700):
            piece = body[at : at + 700]
            self.wfile.write(b"%x;x=1\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["/whole", "/chunks"])
def test_the_http_client_reads_bodies_with_a_length_and_in_chunks_over_one_connection(
    echo: str, path: str
) -> None:
    with closing(HttpConnection(echo)) as http:
        for size in (0, 1, 5_000, 200_000):
            body = {"text": "ü" * size}
            assert http.send(http.request(path, body)) == body


def test_the_http_client_raises_what_a_server_refuses_and_goes_on(echo: str) -> None:
    with closing(HttpConnection(echo)) as http:
        with pytest.raises(ConnectionError, match=r"404.*no such"):
            http.send(http.request("/other", {"error": "no such"}))
        assert http.send(http.request("/whole", {"n": 1})) == {"n": 1}


def test_a_data_set_is_read_as_beir_lays_it_out(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "corpus.jsonl.gz", "wt") as corpus:
        corpus.write(json.dumps({"_id": "7", "title": "T", "text": "x", "metadata": {}}) + "\n")
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "q"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t7\t2\n1\t8\t0\n")
    data = read_beir(tmp_path)
    assert [(one.id, one.title, one.text) for one in data.documents] == [("7", "T", "x")]
    assert data.queries == {"1": "q"}
    assert data.qrels == {"test": {"1": {"7": 2, "8": 0}}}


def test_missing_data_is_named_with_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for given in ("", str(tmp_path)):
        monkeypatch.setenv("RAGMESH_DATA", given)
        with pytest.raises(DataMissing, match=r"RAGMESH_DATA.*github\.com/beir-cellar/beir"):
            scifact()


def test_the_demos_corpus_answers_the_demos_questions() -> None:
    ids = {one.id for one in demo_texts()} | {path.name for path in demo_files()}
    assert len(demo_texts()) >= 500
    for question in demo_questions():
        assert set(question["documents"]) <= ids


def _run(
    *arguments: str, timeout_s: float = 110, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def test_a_suite_that_cannot_run_fails_the_command_and_says_why(tmp_path: Path) -> None:
    done = _run("quality", "--json", str(tmp_path / "found.json"), RAGMESH_DATA="")
    assert done.returncode == 1
    assert "RAGMESH_DATA is not set" in done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["suites"] == []
    assert found["machine"]["versions"]["ragmesh-native"]


def test_an_unknown_suite_is_refused_with_those_that_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["speed"])
    assert refused.value.code == 2
    assert "'speed' is none of search, filter, " in capsys.readouterr().err


def test_without_names_all_suites_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def suite(name: str) -> Callable[[Bench], SuiteReport]:
        def run(bench: Bench) -> SuiteReport:
            ran.append(name)
            return SuiteReport(name, {})

        return run

    monkeypatch.setattr("benchmarks.__main__.SUITES", {name: suite(name) for name in SUITES})
    assert main([]) == 0
    assert ran == list(SUITES)


@pytest.mark.timeout(300)
def test_a_quick_run_measures_a_real_mesh_from_its_start_to_its_targets(tmp_path: Path) -> None:
    said = str(tmp_path / "found.json")
    done = _run("search", "rest", "--quick", "--json", said, timeout_s=280)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("TARGET ")]
    assert [(line[1], line[4]) for line in lines] == [
        ("search_server_over_raw_ms", "unjudged"),
        ("search_recall_at_10", "unjudged"),
        ("search_sdk_over_chroma_p50", "unjudged"),
        ("search_requests_per_s_of_a_core", "unjudged"),
        ("search_batched_queries_per_s_of_a_core", "unjudged"),
        ("search_p99_while_built_ms", "unjudged"),
        ("rest_over_grpc_through_envoy_p50_ms", "unjudged"),
    ]
    suites = {
        one["suite"]: one for one in json.loads((tmp_path / "found.json").read_text())["suites"]
    }
    recall = next(one for one in suites["search"]["comparisons"] if one["name"] == "recall@10")
    assert recall["ours"]["value"] >= 0.98
    assert recall["peer"]["value"] >= 0.98
    for suite in suites.values():
        for comparison in suite["comparisons"]:
            assert comparison["ours"]["value"] > 0
            assert comparison["peer"]["value"] > 0
