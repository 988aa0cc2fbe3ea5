"""A node in a process of its own that asks an endpoint within a budget, until it is killed:

python -m tests.services.generation.budgeted_node DATABASE ENDPOINT
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from services.config import MIB
from services.config_generation import GenerationSettings, OpenAIModel
from services.generation.servicer import GenerationServicer
from services.mesh.mesh import Mesh
from services.rpc.chain import Chain, Gate
from services.store.store import Store
from tests.services.generation.generation_mesh import call


async def _run(database: str, endpoint: str) -> None:
    store = await Store.open(database, connections_max=2)
    mesh = Mesh(Chain(Gate(16), dict(GenerationServicer.checks), 16 * MIB), {}, 16 * MIB)
    settings = GenerationSettings(openai=(OpenAIModel(id="writer", url=endpoint, model="m"),))
    with ThreadPoolExecutor(1) as threads:
        servicer = GenerationServicer(settings, mesh, threads, store)
        mesh.host("generation", servicer)
        await servicer.start()
        request = pb.GenerateTextRequest(
            model="generationModels/writer", question="When?", output_tokens_max=100
        )
        await mesh.generation.GenerateText(request, call(None))


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
