"""A small hub on loopback: the paths of the Hugging Face hub that a download of one model uses."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

REPO = "tiny/red-model"
COMMIT = "5d" * 20
_LFS = (".safetensors", ".onnx")


class Hub:
    """Serves the directory `model` as REPO. What it does wrong can be chosen by file name:
    `altered` bodies have one bit flipped, `cut` ones end in the middle, so many times. Each
    answer waits `pause_s`. `asked` is every request in order."""

    def __init__(self, model: Path, extra: dict[str, bytes]) -> None:
        found = (path for path in sorted(model.rglob("*")) if path.is_file())
        self.files = {str(path.relative_to(model)): path.read_bytes() for path in found} | extra
        self.altered: set[str] = set()
        self.cut: dict[str, int] = {}
        self.pause_s = 0.0
        self.asked: list[tuple[str, str]] = []
        self.url = ""

    def info(self) -> bytes:
        """The answer to `GET /api/models/{repo}/revision/{revision}?blobs=true`."""
        siblings = []
        for name, data in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            sibling = {"rfilename": name, "size": len(data), "blobId": blob}
            if name.endswith(_LFS):
                sha256 = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
            siblings.append(sibling)
        return json.dumps({"id": REPO, "sha": COMMIT, "siblings": siblings}).encode()

    def downloads(self) -> list[str]:
        """The files whose bytes were asked for, in order."""
        prefix = f"/{REPO}/resolve/{COMMIT}/"
        return [path.removeprefix(prefix) for how, path in self.asked if how == "GET"][1:]


@contextmanager
def serving(model: Path, extra: dict[str, bytes] | None = None) -> Iterator[Hub]:
    """A hub with one model, until the context ends."""
    hub = Hub(model, extra or {})

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        hub, path = self.served, unquote(urlsplit(self.path).path)
        hub.asked.append((self.command, path))
        time.sleep(hub.pause_s)
        if path in (f"/api/models/{REPO}/revision/main", f"/api/models/{REPO}/revision/{COMMIT}"):
            self._send(hub.info(), {"Content-Type": "application/json"}, body)
            return
        name = path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")
        if name not in hub.files:
            code = "RevisionNotFound" if f"/{REPO}/" in path else "RepoNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = hub.files[name]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if name in hub.altered:
            data = data[:-1] + bytes([data[-1] ^ 1])
        cut = body and hub.cut.get(name, 0) > 0
        if cut:
            hub.cut[name] -= 1
        self._send(data, headers, body, cut=cut)

    def _send(self, data: bytes, headers: dict[str, str], body: bool, *, cut: bool = False) -> None:
        begin = 0
        asked = self.headers.get("Range", "")
        if asked:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if asked else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if body:
            rest = data[begin:]
            self.wfile.write(rest[: len(rest) // 2] if cut else rest)
