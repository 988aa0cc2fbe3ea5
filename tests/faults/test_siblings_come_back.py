"""A sibling that was away for a while is called again as soon as it is back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from ragmesh.api.generation.v1 import generation_service_pb2 as generation

from engine.errors import ServiceUnavailable
from services.app import Node
from services.config import NodeSettings, Settings
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.rpc.chain import Chain, Gate

OUTAGE_S = 6.0
"""Long enough for gRPC's own backoff to be seen: it would wait 4 s before its next try."""
RECOVERY_S = 2.0


def _node(data_dir: Path, listen: str) -> Node:
    own = NodeSettings(services=("generation",), listen=listen, metrics_listen="")
    return Node(Settings(data_dir=data_dir, node=own))


async def test_calls_reach_a_sibling_again_soon_after_an_outage(tmp_path: Path) -> None:
    sibling = _node(tmp_path, "127.0.0.1:0")
    await sibling.open()
    await sibling.serve()
    address = sibling.address
    mesh = Mesh(Chain(Gate(10), {}, 1 << 20), {"generation": address}, 1 << 20)
    list_models = mesh.method("generation", "ListGenerationModels")

    async def ask() -> None:
        await list_models(generation.ListGenerationModelsRequest(), Call("default", "ask"))

    await ask()
    await sibling.close()
    over_s, refused = time.monotonic() + OUTAGE_S, 0
    while time.monotonic() < over_s:
        try:
            await ask()
        except ServiceUnavailable:
            refused += 1
    assert refused
    again = _node(tmp_path, address)
    await again.open()
    await again.serve()
    back_s = time.monotonic()
    while True:
        try:
            await ask()
            break
        except ServiceUnavailable:
            await asyncio.sleep(0.02)
    recovery_s = time.monotonic() - back_s
    await mesh.close()
    await again.close()
    assert recovery_s < RECOVERY_S
