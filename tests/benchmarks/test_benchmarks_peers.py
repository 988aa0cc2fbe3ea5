"""Peers run apart: in their own process and environment, over a talk that costs them nothing."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.peers.__main__ import main
from benchmarks.peers.environment import (
    FOLDER,
    PeerMissing,
    find,
    installed_apart,
    not_reached,
    read,
)
from benchmarks.peers.process import END_TIMEOUT_S, PeerFailed, running

ECHO = Path(__file__).with_name("echo_peer.py")


def test_a_peer_answers_in_order_and_its_own_time_is_what_counts() -> None:
    with running(read(ECHO), scale=0.5) as peer:
        done = peer.embed(["a", "äöü", "", "sleep"])
        assert done.vectors.tolist() == [[1, 0.5], [3, 0.5], [0, 0.5], [5, 0.5]]
        assert 0.2 <= done.seconds < 2
        assert peer.embed(["x" * 1_000_000]).vectors.tolist() == [[1_000_000, 0.5]]


def test_a_peer_that_fails_on_a_text_says_why_and_goes_on() -> None:
    with running(read(ECHO), scale=1) as peer:
        with pytest.raises(PeerFailed, match="ValueError: a text that cannot be embedded"):
            peer.embed(["fail"])
        with pytest.raises(PeerFailed, match="TypeError: 16 bytes are not 1 x 2 float32"):
            peer.embed(["torn"])
        assert peer.embed(["a"]).vectors.tolist() == [[1, 1]]


def test_a_peer_that_ends_leaves_its_last_words() -> None:
    with (
        pytest.raises(PeerFailed, match="OSError: there is no model"),
        running(read(ECHO), scale=1, broken=True),
    ):
        pass
    with running(read(ECHO), scale=1) as peer, pytest.raises(PeerFailed, match="out of memory"):
        peer.embed(["exit"])


def test_a_peer_whose_threads_wait_for_ever_ends_with_the_run() -> None:
    with running(read(ECHO), scale=1, thread=True) as peer:
        assert peer.embed(["a"]).vectors.tolist() == [[1, 1]]
        begin_s = time.perf_counter()
    assert time.perf_counter() - begin_s < END_TIMEOUT_S / 2


def _peer_with_a_package(folder: Path) -> Path:
    """The echo peer, needing a wheel made here, whose version it tells."""
    wheel = folder / "words-1.5-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as parts:
        parts.writestr("words.py", "")
        parts.writestr(
            "words-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: words\nVersion: 1.5\n"
        )
        parts.writestr(
            "words-1.5.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        parts.writestr("words-1.5.dist-info/RECORD", "")
    block = f'# /// script\n# dependencies = [\n#     "words @ {wheel.as_uri()}",\n# ]\n# ///\n'
    file = folder / "wordy.py"
    file.write_text(block + ECHO.read_text().replace("serve(load, ())", 'serve(load, ("words",))'))
    return file


def test_a_peer_gets_an_environment_of_its_own_and_is_named_while_it_has_none(
    tmp_path: Path,
) -> None:
    file = _peer_with_a_package(tmp_path)
    peer = read(file, tmp_path / "cache")
    with (
        pytest.raises(PeerMissing, match=r"wordy.*benchmarks\.peers prepare wordy"),
        running(peer, scale=1),
    ):
        pass
    peer.directory.mkdir(parents=True)  # an installation that was broken off does not count
    assert not peer.is_ready
    peer.prepare()
    with running(peer, scale=1) as process:
        assert process.versions == {"words": "1.5"}
        assert process.embed(["ab"]).vectors.tolist() == [[2, 1]]
    assert not list(peer.directory.glob("lib/*/site-packages/numpy"))
    file.write_text(file.read_text().replace("words @", "words[more] @"))
    assert not read(file, tmp_path / "cache").is_ready


def test_every_peer_pins_the_packages_that_decide_its_speed() -> None:
    peers = {peer.name: peer for peer in installed_apart()}
    decisive = {
        "bm25s": "bm25s",
        "chroma": "chromadb",
        "infinity": "torch",
        "markitdown": "markitdown[docx,outlook,pdf,pptx,xls,xlsx]",
        "onnxruntime": "torch",
        "qdrant": "qdrant-client",
        "qdrant_edge": "qdrant-edge-py",
        "sentence_transformers": "torch",
        "usual_stack": "torch",
    }
    assert set(peers) == set(decisive)
    for name, peer in peers.items():
        assert all("==" in requirement for requirement in peer.requirements)
        assert any(one.startswith(f"{decisive[name]}==") for one in peer.requirements)
    assert peers["onnxruntime"].directory == peers["sentence_transformers"].directory
    assert find("encoder").requirements == ()


def test_a_server_without_an_address_is_named_where_its_suite_runs() -> None:
    (said,) = not_reached(["search", "rest"], [])
    assert said.startswith("qdrant: ") and "--peer qdrant=URL" in said
    assert len(not_reached(["search", "embed"], [])) == 2
    assert not_reached(["search"], ["qdrant"]) == not_reached(["rest"], []) == []


def test_what_a_peer_leaves_on_a_server_is_taken_away_when_the_run_ends(tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.touch()
    with running(read(ECHO), scale=1, leaves=str(left)) as peer:
        assert peer.embed(["a"]).vectors.tolist() == [[1, 1]]
        assert left.exists()
    assert not left.exists()


class _Embeddings(BaseHTTPRequestHandler):
    """As much of text-embeddings-inference as its client uses: a text's length, and 1."""

    def do_GET(self) -> None:
        self._say({"model_id": "lengths"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._say([[float(len(one)), 1.0] for one in asked["inputs"]])

    def _say(self, told: object) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_text_embeddings_inference_is_asked_where_it_runs() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Embeddings)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        with running(find("tei"), options={"url": url}) as peer:
            rows = peer.embed(["x" * n for n in range(100)]).vectors
        assert rows.tolist() == [[n, 1] for n in range(100)]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(PeerFailed, match="refused"), running(find("tei"), options={"url": url}):
        pass


def test_the_peers_can_be_listed_and_an_unknown_one_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list"]) == 0
    assert "sentence_transformers: " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["prepare", "tensorflow"])
    assert f"{FOLDER} has no peer 'tensorflow'" in capsys.readouterr().err
