"""text-embeddings-inference, a server that runs elsewhere (`--peer tei=URL`), over its REST API: 32
texts a request, as many as it takes by default, 8 requests at once. It cuts texts by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.wire import Embed, serve

BATCH = 32
REQUESTS = 8
TIMEOUT_S = 120.0


def load(given: Mapping[str, Any]) -> Embed:
    """`options` has `url`. Asks the server what model it has, so that one that is not there is
    told before the run."""
    url = given["options"]["url"]
    with urlopen(f"{url}/info", timeout=TIMEOUT_S) as answer:
        json.load(answer)
    callers = ThreadPoolExecutor(REQUESTS)

    def batch(texts: list[str]) -> list[list[float]]:
        body = json.dumps({"inputs": texts, "truncate": True, "normalize": True}).encode()
        request = Request(f"{url}/embed", body, {"content-type": "application/json"})
        with urlopen(request, timeout=TIMEOUT_S) as answer:
            rows: list[list[float]] = json.load(answer)
        return rows

    def embed(texts: list[str]) -> NDArray[np.float32]:
        batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        return np.array([row for rows in callers.map(batch, batches) for row in rows], np.float32)

    return embed


if __name__ == "__main__":
    serve(load, ())
