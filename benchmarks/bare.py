"""hnswlib behind a bare gRPC server: what any search over gRPC in Python costs at the least.

`python -m benchmarks.bare INDEX DIMENSIONS EF` serves a saved index on a free port of loopback,
which it prints, until its standard input ends. A call takes a vector's bytes and answers with the
bytes of labels and distances: no message, check, deadline, metric or log.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import hnswlib
import numpy as np
import uvloop

METHOD = "/bare/Search"
_K = 10


@contextmanager
def bare_server(index: hnswlib.Index, ef: int, folder: Path) -> Iterator[str]:
    """Serves the index in a process of its own, which sees it through a file in `folder`; yields
    its address. Raises ValueError if the process does not say one."""
    file = folder / "bare.hnsw"
    index.save_index(str(file))
    argv = [sys.executable, "-m", "benchmarks.bare", str(file), str(index.dim), str(ef)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield f"127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.stdin.close()


async def _serve(index: hnswlib.Index) -> None:
    async def search(vector: bytes, _: object) -> bytes:
        labels, distances = index.knn_query(np.frombuffer(vector, np.float32), _K, num_threads=1)
        found: bytes = labels.tobytes() + distances.tobytes()
        return found

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(search)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


def main(file: str, dimensions: str, ef: str) -> None:
    """Serves until standard input ends."""
    index = hnswlib.Index("cosine", int(dimensions))
    index.load_index(file)
    index.set_ef(int(ef))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(index))


if __name__ == "__main__":
    main(*sys.argv[1:])
