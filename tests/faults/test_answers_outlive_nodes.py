"""A node that is killed in the middle of an answer takes nothing with it but the rest: what came
stays readable, its readers are told how it ended, and the question may be asked again."""

from __future__ import annotations

import asyncio

import pytest
import ragmesh
from ragmesh import AnswerStarted, AsyncClient, TextDelta

from benchmarks.mesh import running_mesh
from benchmarks.suites.streams.dripping import Dripping
from services.config import ChatSettings, GenerationSettings, OpenAIModel
from tests.faults.faulty_mesh import ALL, until

FACT = "The lighthouse of Norderhaven was built in 1871."
QUESTION = "When was the lighthouse built?"


async def test_a_killed_nodes_answer_fails_for_its_readers_elsewhere() -> None:
    model = Dripping(10_000, 0.05)
    drip = OpenAIModel(id="drip", url=await model.start(), model="drip")
    parts = {
        "generation": GenerationSettings(openai=(drip,)),
        "chat": ChatSettings(lease_s=3.0),
    }
    made = running_mesh(nodes=[("chat",), ALL], parts=parts)
    mesh = await asyncio.to_thread(made.__enter__)
    try:
        first, second = mesh.addresses.nodes
        async with AsyncClient(first) as dying, AsyncClient(second, timeout_s=60) as living:
            await living.create_collection("facts")
            stored = await living.create_document("facts", text=FACT, display_name="f.txt")
            await living.wait_for_ingest_job(stored.ingest_job.name)

            async def found() -> bool:
                again = await living.ask_question(QUESTION, "facts")
                return "1871" in again.text

            await until(found, 60, "the document is found")
            name, ids = "", []
            async with dying.stream_answer(QUESTION, "facts", generation_model="drip") as events:
                async for event in events:
                    if isinstance(event, AnswerStarted):
                        name = event.answer
                    if isinstance(event, TextDelta):
                        ids.append(event.event_id)
                    if len(ids) == 5:
                        break
                mesh.kill_node()
            seen: list[int] = []
            with pytest.raises(ragmesh.ServiceUnavailable, match="gone"):
                async for event in living.resume_answer(name, after_event_id=ids[-1]):
                    assert isinstance(event, TextDelta)
                    seen.append(event.event_id)
            assert seen == list(range(ids[-1] + 1, ids[-1] + 1 + len(seen)))
            kept = await living.get_answer(name)
            assert (kept.state, kept.done, kept.answer) == ("failed", True, None)

            await until(found, 60, "the question is answered at the other node")
    finally:
        await asyncio.to_thread(made.__exit__, None, None, None)
        await model.stop()
