"""How a run and a peer talk: lines of JSON over the peer's standard input and output.

The peer says `{"ready": {package: version}}` when its model is loaded. Then, for each line
`{"texts": [...]}`, it answers with a line `{"seconds": s, "rows": n, "columns": d}` and n * d
float32, row by row; or with `{"error": "..."}`, after which it takes the next line. `seconds` is
the time of the peer's own call, so what the talk costs is nobody's. The end of its input is its
end. A peer that searches (`searching.py`) answers each line with a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any, BinaryIO, Protocol

FLOAT_BYTES = 4
ENDING = ExitStack()
"""What a peer does when its input has ended, such as to take away what it left on a server."""


class Rows(Protocol):
    """What is used of an array of float32, (texts, dimensions), contiguous."""

    @property
    def shape(self) -> tuple[int, ...] | None: ...
    def tobytes(self) -> bytes: ...


Embed = Callable[[list[str]], Rows]
"""Texts to vectors, in order."""
Message = Mapping[str, Any]
Answer = Callable[[Message], Message]
"""A line's JSON to the answer's."""
Load = Callable[[Mapping[str, Any]], Embed]
"""From what the run gave: `model` (a Hugging Face directory), `threads`, and a peer's own."""


def serve(load: Load, packages: Sequence[str]) -> None:
    """Loads what `argv[1]` asks for, in JSON, and answers until standard input ends.

    `packages` are those whose versions are told.
    """

    def started(given: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], tuple[Message, bytes]]:
        embed = load(given)

        def answer(asked: Mapping[str, Any]) -> tuple[Message, bytes]:
            texts: list[str] = asked["texts"]
            begin_s = time.perf_counter()
            vectors = embed(texts)
            seconds = time.perf_counter() - begin_s
            return _answer(vectors, seconds)

        return answer

    _serve(started, packages)


def serve_answers(load: Callable[[Mapping[str, Any]], Answer], packages: Sequence[str]) -> None:
    """The same for what is JSON both ways: each line is answered with a line."""

    def started(given: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], tuple[Message, bytes]]:
        answer = load(given)
        return lambda asked: (answer(asked), b"")

    _serve(started, packages)


def _serve(
    load: Callable[[Mapping[str, Any]], Callable[[Mapping[str, Any]], tuple[Message, bytes]]],
    packages: Sequence[str],
) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    try:
        answer = load(json.loads(sys.argv[1]))
    except Exception as error:
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        raise
    _say(answers, {"ready": {name: version(name) for name in packages}})
    for line in sys.stdin.buffer:
        try:
            header, data = answer(json.loads(line))
        except Exception as error:  # whatever it is, the run wants to read it
            _say(answers, {"error": f"{type(error).__name__}: {error}"})
            continue
        _say(answers, header, data)
    ENDING.close()
    os._exit(0)  # a library's threads may wait for work for ever


def _answer(vectors: Rows, seconds: float) -> tuple[dict[str, float], bytes]:
    rows, columns = vectors.shape or ()
    data = vectors.tobytes()
    if len(data) != rows * columns * FLOAT_BYTES:
        raise TypeError(f"{len(data)} bytes are not {rows} x {columns} float32")
    return {"seconds": seconds, "rows": rows, "columns": columns}, data


def _say(out: BinaryIO, header: Mapping[str, Any], data: bytes = b"") -> None:
    out.write(json.dumps(header).encode() + b"\n" + data)
    out.flush()
