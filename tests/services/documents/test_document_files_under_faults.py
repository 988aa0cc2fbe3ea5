"""Files of documents outlive nodes that are killed and disks that fail."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.documents.files import Files
from services.objects.directory import DirectoryStore
from services.objects.sweeping import condemn_unnamed, delete_condemned
from services.store.cleanup import DOCUMENT_FILES
from services.store.documents import list_documents
from services.store.store import Store
from tests.services.documents.given_files import left, objects_of, read, store_as_before
from tests.services.store.stored import Database, make_collection

pytestmark = pytest.mark.asyncio

LIVES = 4
"""Of a node that moves files; all end by a kill, the last one when it is done."""

_FAULTS = Path(__file__).parents[1] / "retrieval" / "disk_faults.c"
_MOVING = """
import asyncio, sys
from pathlib import Path
from services.documents import files as module
from services.objects.directory import DirectoryStore
from services.store.store import Store
module.MOVE_PAUSE_S = 0.0
async def main():
    store = await Store.open(sys.argv[1], migrations=False)
    module.Files(store, DirectoryStore(Path(sys.argv[2]))).start()
    await asyncio.sleep(60)
asyncio.run(main())
"""
_UPLOADS = """
import asyncio, json, os, sys
from pathlib import Path
from engine.errors import RagmeshError
from services.documents.files import Files
from services.objects.directory import DirectoryStore
from services.store.collections import get_collection
from services.store.store import Store
from tests.services.documents.given_files import store_document
url, root, faults = sys.argv[1:]
async def main():
    store = await Store.open(url, migrations=False)
    files = Files(store, DirectoryStore(Path(root)))
    async with store.transaction("one") as tx:
        collection = await get_collection(tx, "c")
    os.environ["DISK_FAULT_PATH"] = root
    for number, fault in enumerate(json.loads(faults)):
        os.environ["DISK_FAULT"] = fault
        try:
            await store_document(store, files, collection, f"d{number}", bytes([number]) * 500_000)
            said = ["done", "", ""]
        except RagmeshError as error:
            said = [type(error).__name__, error.metadata["problem"], error.message]
        os.environ["DISK_FAULT"] = ""
        print(json.dumps([fault, *said, sorted(os.listdir(root))]), flush=True)
    await store.close()
asyncio.run(main())
"""


async def test_nodes_that_are_killed_while_they_move_files_lose_none(
    store: Store, database: Database, tmp_path: Path
) -> None:
    collection = await make_collection(store, "one", "c")
    choose = random.Random(5)
    files = [choose.randbytes(choose.choice([10, 1 << 20, 1_500_000])) for _ in range(48)]
    for number, data in enumerate(files):
        await store_as_before(store, collection, f"d{number}", data)
    root, left_there = tmp_path / "objects", [len(files)]
    for life in range(LIVES):
        arguments = (database.url, str(root))
        node = await asyncio.create_subprocess_exec(sys.executable, "-c", _MOVING, *arguments)
        goal = 0 if life == LIVES - 1 else left_there[-1] - choose.randint(1, 6)
        async with asyncio.timeout(40):
            while await _in_rows(store) > goal:
                await asyncio.sleep(0.005)
        await asyncio.sleep(choose.uniform(0.0, 0.02))
        node.send_signal(signal.SIGKILL)
        await node.wait()
        left_there.append(await _in_rows(store))
    assert len(set(left_there)) > 2, left_there  # some were cut off in the middle
    objects = DirectoryStore(root)
    for data in files:
        assert await read(Files(store, objects), "one", data) == data
    async with store.system() as tx:
        assert await tx.rows("SELECT 1 FROM content_chunks") == []
    await condemn_unnamed(store, objects, kept_s=-1.0, kind=DOCUMENT_FILES)
    assert await delete_condemned(store, objects, kind=DOCUMENT_FILES) == 0
    await objects.tidy(-1.0)
    assert set(left(root)) == await objects_of(objects)
    assert len(left(root)) == len(files)
    objects.close()


async def _in_rows(store: Store) -> int:
    async with store.system() as tx:
        row = await tx.row("SELECT count(*) FROM contents WHERE object IS NULL")
    assert row is not None
    return int(row[0])


async def test_a_disk_that_fails_refuses_an_upload_whole_and_takes_the_next(
    store: Store, database: Database, tmp_path: Path
) -> None:
    library = tmp_path / "disk_faults.so"
    build = ("cc", "-shared", "-fPIC", "-o", str(library), str(_FAULTS), "-ldl")
    assert await (await asyncio.create_subprocess_exec(*build)).wait() == 0
    collection = await make_collection(store, "one", "c")
    root = tmp_path / "objects"
    faults = [
        f"write:{errno.ENOSPC}",
        f"write:{errno.EIO}",
        f"link:{errno.ENOSPC}",
        f"fsync:{errno.EIO}",
        f"rename:{errno.EDQUOT}",
        "",
    ]
    node = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _UPLOADS, database.url, str(root), json.dumps(faults)),
        env={**os.environ, "LD_PRELOAD": str(library)},
        stdout=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        printed, _ = await node.communicate()
    said = [json.loads(line) for line in printed.splitlines()]
    assert [line[0] for line in said] == faults
    for fault, kind, problem, message, left_there in said[:-1]:
        code = int(fault.partition(":")[2])
        full = code in (errno.ENOSPC, errno.EDQUOT)
        assert kind == ("ObjectStoreFull" if full else "ObjectStoreFailed"), fault
        assert problem == errno.errorcode[code]
        assert ("Free some space" in message) == full
        assert left_there == [], fault
    assert said[-1][1] == "done" and len(said[-1][4]) == 1
    async with store.transaction("one") as tx:
        documents = await list_documents(tx, collection)
    assert [document.id for document in documents] == [f"d{len(faults) - 1}"]
