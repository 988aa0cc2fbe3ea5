"""A peer whose vectors say what it was given: a row of (characters, `scale`) for each text."""

from __future__ import annotations

import os
import sys
import threading
import time
from array import array
from collections.abc import Mapping
from typing import Any

from benchmarks.peers.wire import ENDING, Embed, serve


def load(given: Mapping[str, Any]) -> Embed:
    """Texts may ask for more: `sleep`, `fail`, `exit` or `torn`."""
    print("this peer prints while it loads")
    if given.get("thread"):
        threading.Thread(target=threading.Event().wait).start()
    if given.get("leaves"):
        ENDING.callback(os.unlink, given["leaves"])
    if given.get("broken"):
        raise OSError("there is no model")

    def embed(texts: list[str]) -> memoryview[float]:
        print("and while it works")
        if "sleep" in texts:
            time.sleep(0.2)
        if "fail" in texts:
            raise ValueError("a text that cannot be embedded")
        if "exit" in texts:
            print("out of memory", file=sys.stderr, flush=True)
            os._exit(9)
        rows = [number for text in texts for number in (len(text), given["scale"])]
        if "torn" in texts:
            return memoryview(array("d", rows)).cast("B").cast("d", (len(texts), 2))
        return memoryview(array("f", rows)).cast("B").cast("f", (len(texts), 2))

    return embed


if __name__ == "__main__":
    serve(load, ())
