"""What a peer that reads files does when it is told to: one loop for all.

    {"files": [path, ...], "passes": n} -> {"seconds": [s or null, ...], "chars": [n, ...]}

The seconds are those of the fastest pass, from the path to the text; null where nothing was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.peers.wire import Answer, Message, serve_answers

ReadFile = Callable[[str], str]
"""A path to the text of its file; raises whatever it likes."""


def serve_reading(load: Callable[[Mapping[str, Any]], ReadFile], package: str) -> None:
    """Makes the reader of what `argv[1]` says, and reads until the input ends."""

    def started(given: Mapping[str, Any]) -> Answer:
        return answering(load(given))

    serve_answers(started, (package,))


def answering(read: ReadFile) -> Answer:
    """The answers of a reader."""

    def answer(asked: Message) -> Message:
        found = [_fastest(read, path, asked["passes"]) for path in asked["files"]]
        return {"seconds": [one[0] for one in found], "chars": [one[1] for one in found]}

    return answer


def _fastest(read: ReadFile, path: str, passes: int) -> tuple[float | None, int]:
    fastest, chars = None, 0
    for _ in range(passes):
        begin_s = time.perf_counter()
        try:
            chars = len(read(path))
        except Exception:  # a file that this reader does not read
            return None, 0
        seconds = time.perf_counter() - begin_s
        fastest = seconds if fastest is None else min(fastest, seconds)
    return (fastest, chars) if chars else (None, 0)
