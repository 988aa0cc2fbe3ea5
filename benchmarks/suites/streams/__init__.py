"""Streamed answers: many at once whose readers come and go, the first event, and a cancel."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import httpx
import numpy as np
import psutil
from google.protobuf import json_format
from ragmesh import Client
from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.chat.v1 import chat_service_pb2_grpc as stubs

from benchmarks.bench import Bench
from benchmarks.mesh import RunningMesh, running_mesh
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.suites.streams.dripping import Dripping
from benchmarks.suites.streams.readers import TRANSPORTS, Reader, Ways, read
from services.config import BridgeSettings, ChatSettings, GenerationSettings, OpenAIModel

COLLECTION = "facts"
FACTS = "The lighthouse of Norderhaven was built in 1871. It is thirty meters high."
QUESTION = "When was the lighthouse built?"
PAUSE_S = 0.25
SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Size:
    """How many answers, for how long, and how many calls are timed one at a time."""

    answers: int
    seconds: float
    firsts: int
    cancels: int


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it. Times in milliseconds; `memory_mib` are samples of node and bridge."""

    readers: Sequence[Reader]
    memory_mib: Sequence[float]
    first_ms: Sequence[float]
    ask_ms: Sequence[float]
    cancel_ms: Sequence[float]


def streams(bench: Bench) -> SuiteReport:
    """200 answers for 60 s, of which each reader loses its connection every few seconds."""
    size = Size(20, 5.0, 5, 3) if bench.quick else Size(200, 60.0, 100, 20)
    found = asyncio.run(_run(bench, size))
    readers = found.readers
    half = len(found.memory_mib) // 2
    # From when all answers are under way: what they take is taken by then.
    early, late = found.memory_mib[half // 2 : half], found.memory_mib[-max(1, half // 2) :]
    growth = float(np.median(late) / np.median(early)) if early else float("nan")
    whole = sum(reader.last == "finished" for reader in readers)
    return SuiteReport(
        suite="streams",
        setting={
            "answers": f"{size.answers}, {size.seconds:g} s each, a word every {PAUSE_S:g} s",
            "readers": f"{len(readers)}, over {', '.join(TRANSPORTS)} through the gateway",
            "connections": "lost at random after 1 to 4 s",
        },
        figures=[
            Figure("events read", sum(len(reader.ids) for reader in readers), "events"),
            Figure("times that readers came back", sum(r.returns for r in readers), "returns"),
            Figure("readers who came to the end", whole, f"of {len(readers)}"),
            Figure("memory of node and bridge", float(np.max(found.memory_mib)), "MiB", "most"),
            Figure("first event, p99", float(np.percentile(found.first_ms, 99)), "ms"),
            Figure("AskQuestion, p50", float(np.median(found.ask_ms)), "ms", "extractive"),
            Figure("a cancel comes to the model, p50", float(np.median(found.cancel_ms)), "ms"),
        ],
        targets=[
            Target("streams_readers_without_end", len(readers) - whole),
            Target("streams_events_missed", sum(r.missed for r in readers)),
            Target("streams_events_twice", sum(r.twice for r in readers)),
            Target("streams_memory_growth", growth),
            Target("streams_first_event_p50_ms", float(np.median(found.first_ms))),
            Target("streams_cancel_most_ms", float(np.max(found.cancel_ms))),
        ],
    )


async def _run(bench: Bench, size: Size) -> Found:
    model = Dripping(round(size.seconds / PAUSE_S), PAUSE_S)
    drip = OpenAIModel(
        id="drip",
        url=await model.start(),
        model="drip",
        timeout_s=600.0,
        concurrency_max=1_000,
    )
    generation = GenerationSettings(openai=(drip,))
    parts = {
        "generation": generation,
        "chat": ChatSettings(answers_max=1_000),
        "bridge": BridgeSettings(streams_max=1_000),
    }
    bench.say("starting a mesh whose model is slow")
    with contextlib.ExitStack() as stack:
        made = running_mesh(parts=parts, calls_max=2_000)
        running = await asyncio.to_thread(stack.enter_context, made)
        await asyncio.to_thread(_fill, running.addresses.nodes[0])
        try:
            first_ms, ask_ms = await _firsts(running.addresses.nodes[0], size.firsts)
            bench.say(f"{size.answers} answers, {size.seconds:g} s")
            readers, memory_mib = await _many(running, size)
            bench.say("cancelling")
            cancel_ms = await _cancels(running.addresses.nodes[0], model, size.cancels)
        finally:
            await asyncio.to_thread(stack.close)
            await model.stop()
    return Found(readers, memory_mib, first_ms, ask_ms, cancel_ms)


def _fill(address: str) -> None:
    with Client(address) as client:
        client.create_collection(COLLECTION)
        job = client.create_document(COLLECTION, text=FACTS, display_name="f.txt").ingest_job
        client.wait_for_ingest_job(job.name)
        client.ask_question(QUESTION, COLLECTION)


def _request(model: str = "") -> pb.StreamAnswerRequest:
    return pb.StreamAnswerRequest(
        question=QUESTION, collections=[f"collections/{COLLECTION}"], generation_model=model
    )


async def _firsts(address: str, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds to the first event, and of whole answers, one at a time, at the node."""
    first_ms, ask_ms = [], []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = stubs.ChatServiceStub(channel)
        whole = pb.AskQuestionRequest.FromString(_request().SerializeToString())
        for i in range(count + 5):
            begin_s = time.perf_counter()
            events = aiter(stub.StreamAnswer(_request()))
            await anext(events)
            took_ms = (time.perf_counter() - begin_s) * 1000
            async for _ in events:
                pass
            begin_s = time.perf_counter()
            await stub.AskQuestion(whole)
            if i >= 5:
                first_ms.append(took_ms)
                ask_ms.append((time.perf_counter() - begin_s) * 1000)
    return first_ms, ask_ms


async def _many(running: RunningMesh, size: Size) -> tuple[list[Reader], list[float]]:
    gateway = running.addresses.rest.removeprefix("http://")
    request = _request("generationModels/drip")
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    chance = random.Random(1)
    give_up_s = size.seconds * 2 + 60
    parts = [psutil.Process(running.node_pid()), psutil.Process(running.part_pid("bridge"))]
    memory_mib: list[float] = []

    async def sample() -> None:
        while True:
            memory_mib.append(sum(part.memory_info().rss for part in parts) / 2**20)
            await asyncio.sleep(SAMPLE_S)

    async with (
        grpc.aio.insecure_channel(gateway) as channel,
        httpx.AsyncClient(
            base_url=f"http://{gateway}", timeout=30.0, limits=limits, trust_env=False
        ) as http,
    ):
        stub = stubs.ChatServiceStub(channel)
        ways = Ways(gateway, stub, http, request, json_format.MessageToDict(request))
        readers = [Reader(TRANSPORTS[i % len(TRANSPORTS)]) for i in range(size.answers)]
        sampling = asyncio.create_task(sample())
        reading = []
        for reader in readers:
            reading.append(asyncio.create_task(read(reader, ways, chance, give_up_s)))
            await asyncio.sleep(0.01)
        # Every fourth answer has one more reader, who comes later and speaks another language.
        more = []
        for i, reader in enumerate(readers[::4]):
            await reader.named.wait()
            more.append(Reader(TRANSPORTS[(i + 1) % len(TRANSPORTS)], reader.name))
            reading.append(asyncio.create_task(read(more[-1], ways, chance, give_up_s)))
        await asyncio.gather(*reading)
        sampling.cancel()
    return readers + more, memory_mib


async def _cancels(address: str, model: Dripping, count: int) -> list[float]:
    """Milliseconds from a call of CancelAnswer until the model's endpoint sees it."""
    found = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = stubs.ChatServiceStub(channel)
        for _ in range(count):
            events = aiter(stub.StreamAnswer(_request("generationModels/drip")))
            name = (await anext(events)).started.answer
            while (await anext(events)).WhichOneof("event") != "delta":
                pass
            while not model.left_s.empty():  # of answers that nobody came back for
                model.left_s.get_nowait()
            begin_s = time.perf_counter()
            await stub.CancelAnswer(pb.CancelAnswerRequest(name=name))
            found.append((await model.left_s.get() - begin_s) * 1000)
            async for _ in events:
                pass
    return found
