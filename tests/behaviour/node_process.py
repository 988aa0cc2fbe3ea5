"""A node of its own, configured by the environment, until SIGTERM. Writes its addresses to the
file named, when it serves."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from services import logs
from services.app import Node
from services.config import Settings


async def main(addresses: Path) -> None:
    """One life of a node."""
    settings = Settings()
    logs.configure(settings.log_level)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    node = Node(settings)
    await node.open()
    await node.serve()
    scratch = addresses.with_suffix(".new")
    scratch.write_text(json.dumps({"address": node.address, "metrics": node.metrics_address}))
    scratch.rename(addresses)
    await stop.wait()
    await node.drain()
    await node.close()


asyncio.run(main(Path(sys.argv[1])))
