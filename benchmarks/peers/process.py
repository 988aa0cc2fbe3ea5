"""A peer's process, seen from the run."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.environment import ROOT, Peer
from benchmarks.peers.wire import FLOAT_BYTES

END_TIMEOUT_S = 10.0


class PeerFailed(RuntimeError):
    """What a peer said, or the end of its standard error where it ended without a word."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors` is float32 (texts, dimensions); `seconds` what the peer's own call took."""

    vectors: NDArray[np.float32]
    seconds: float


class PeerProcess:
    """One running peer; takes one call at a time. `versions` are those of its packages."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.name = name
        self._process = process
        self._errors = errors
        self.versions: Mapping[str, str] = self._header()["ready"]

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Texts to vectors. Raises PeerFailed."""
        assert self._process.stdout is not None
        header = self.ask({"texts": list(texts)})
        shape = header["rows"], header["columns"]
        data = self._process.stdout.read(shape[0] * shape[1] * FLOAT_BYTES)
        return Embedded(np.frombuffer(data, np.float32).reshape(shape), header["seconds"])

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The line that answers a line. Raises PeerFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerFailed(self._last_words()) from error
        return self._header()

    def _header(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailed(self._last_words())
        header: dict[str, Any] = json.loads(line)
        if "error" in header:
            raise PeerFailed(f"{self.name}: {header['error']}")
        return header

    def _last_words(self) -> str:
        self._errors.seek(0)
        said = self._errors.read()[-2000:].decode(errors="replace")
        return f"{self.name} ended: {said}"


@contextmanager
def running(peer: Peer, **given: Any) -> Iterator[PeerProcess]:
    """Starts a peer with what it is `given`, until the context ends.

    It finds the repository's modules, and no hub. Raises PeerMissing, PeerFailed.
    """
    # -P: a peer may be named after the package that it imports.
    argv = [str(peer.python()), "-P", str(peer.file), json.dumps(given)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        ) as process,
    ):
        try:
            yield PeerProcess(peer.name, process, errors)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
