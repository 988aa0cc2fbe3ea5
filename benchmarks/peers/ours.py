"""Our own parsers, in a process like those of the peers, without the confinement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.reading import ReadFile, serve_reading


def load(given: Mapping[str, Any]) -> ReadFile:
    """The seam that the parser's process calls, with the model of languages loaded."""
    from engine.documents import language
    from engine.documents.parse import parse_document

    language.load()

    def read(path: str) -> str:
        file = Path(path)
        return parse_document(file.read_bytes(), file.name).text

    return read


if __name__ == "__main__":
    serve_reading(load, "ragmesh-server")
