"""A disk that is full, or loses what it was given, holds up no write and no search: the log says
what is wrong, nothing is lost, and when the disk is well again segments are built again."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

from services.store.store import Store
from tests.services.retrieval.failing_disk import FAULTS
from tests.services.store.stored import Database

_LIBRARY = Path(__file__).with_name("disk_faults.c")


async def test_a_node_goes_on_while_its_disks_fail(
    store: Store, database: Database, tmp_path: Path
) -> None:
    library = tmp_path / "disk_faults.so"
    compile = ["cc", "-shared", "-fPIC", "-o", str(library), str(_LIBRARY), "-ldl"]
    await asyncio.to_thread(subprocess.run, compile, check=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.retrieval.failing_disk"),
        *(database.url, str(tmp_path / "node")),
        cwd=Path(__file__).parents[3],
        env={**os.environ, "LD_PRELOAD": str(library)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()[-4000:]
    done = [json.loads(line) for line in printed.splitlines()]
    assert done == [[call, errno.errorcode[code], where] for call, code, where in FAULTS]
