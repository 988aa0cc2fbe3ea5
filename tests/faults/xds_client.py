"""A gRPC client on `xds:///retrieval`, in a process of its own because gRPC reads its bootstrap
once: searches without trying again until its input ends, then prints what became of it."""

from __future__ import annotations

import asyncio
import json
import sys

import grpc.aio

from tests.faults.callers import over_grpc
from tests.faults.load import Load


async def main(collection: str, wanted: str) -> None:
    """Runs until standard input ends."""
    async with grpc.aio.insecure_channel("xds:///retrieval") as channel:
        search = over_grpc(channel, collection, wanted)
        async with Load(search, search) as load:
            print("going", flush=True)
            await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"done": load.done, "failures": load.failures}), flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2]))
