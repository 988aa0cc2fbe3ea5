"""A node's products do not take the cores from its model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

NODE = """
import asyncio, json, sys
from pathlib import Path

async def main() -> None:
    from services.app import Node
    from services.config import ModelSettings, NodeSettings, Settings

    node = Node(
        Settings(
            data_dir=Path(sys.argv[1]),
            models=ModelSettings(directory=Path(sys.argv[2])),
            node=NodeSettings(services=("embedding",), listen="127.0.0.1:0"),
        )
    )
    await node.open()
    from threadpoolctl import threadpool_info
    blas = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
    await node.close()
    print(json.dumps(blas))

asyncio.run(main())
"""


def test_blas_of_a_node_has_one_thread(tmp_path: Path, first: Path) -> None:
    """In a process that has not loaded numpy before, as `ragmesh serve` is one."""
    done = subprocess.run(
        [sys.executable, "-c", NODE, str(tmp_path / "data"), str(first)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(json.loads(done.stdout)) == {1}
