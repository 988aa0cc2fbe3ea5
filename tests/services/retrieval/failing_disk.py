"""A node on disks that fail when they are told to, for `test_disks_fail.py`: run under the library
of `disk_faults.c` as `python -m tests.services.retrieval.failing_disk URL ROOT`.

Prints a line of JSON for every fault; what is not as it should be ends it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from services.rpc.call import Call
from services.store.collections import CollectionSpec, create_collection
from services.store.store import Store
from tests.services.retrieval.lives import LivingNode, hurry
from tests.services.retrieval.nodes import DIMENSIONS, Log, check, names

FAULTS = (
    ("write", errno.ENOSPC, "one"),
    ("fsync", errno.EIO, "one"),
    ("rename", errno.EIO, "one"),
    ("fsync", errno.EIO, "objects"),
    ("link", errno.ENOSPC, "objects"),
    ("rename", errno.ENOSPC, "objects"),
)
"""What is refused, why, and in which of the node's two directories."""


class Said(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def at_head(node: LivingNode, log: Log) -> Any:
    call = Call("default", "r1", time.monotonic() + 20)
    return await node.room.indexes.view(log.collection, log.seq, call)


async def one_fault(node: LivingNode, log: Log, said: Said, number: int) -> None:
    """Writes and searches while a disk fails, and looks at what becomes of it afterwards."""
    call, code, where = FAULTS[number]
    os.environ["DISK_FAULT_PATH"] = f"/{where}/"
    os.environ["DISK_FAULT"] = f"{call}:{code}"
    said.lines.clear()
    begin_s = time.monotonic()
    while not any(os.strerror(code) in line for line in said.lines):
        assert time.monotonic() - begin_s < 20, f"nothing of {os.strerror(code)} in {said.lines}"
        await log.churn(2, number * 10)
        check(await at_head(node, log), log)
        await asyncio.sleep(0.05)
    await log.churn(3, number * 10 + 5)
    check(await at_head(node, log), log)
    os.environ["DISK_FAULT"] = ""
    view = await at_head(node, log)
    before = names(view)
    begin_s = time.monotonic()
    while names(await at_head(node, log)) == before:
        seen_s = time.monotonic() - begin_s
        assert seen_s < 20, "nothing is sealed when the disk is well again"
        await log.churn(4, number * 10 + 8)
        await at_head(node, log)
        await node.settled()
    check(await at_head(node, log), log)
    print(json.dumps([call, errno.errorcode[code], where]), flush=True)


async def main(url: str, root: Path) -> None:
    """Tries every fault on one node, whose next life begins with what was kept."""
    said = Said()
    logging.getLogger().addHandler(said)
    store = await Store.open(url, connections_max=8, migrations=False)
    async with store.transaction("default") as tx:
        spec = CollectionSpec(dimensions=DIMENSIONS, hnsw_m=4)
        log = Log(store, await create_collection(tx, "papers", spec))
    node = LivingNode(store, root, "one")
    await node.start()
    for number in range(len(FAULTS)):
        await one_fault(node, log, said, number)
    await node.crash()
    await node.start()
    check(await at_head(node, log), log)
    await node.close()
    await store.close()


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
