"""The suites by name, in the order in which a whole run takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.bench import Bench
from benchmarks.report import SuiteReport
from benchmarks.suites.ask import ask
from benchmarks.suites.chat import chat
from benchmarks.suites.embed import embed
from benchmarks.suites.filter import filter
from benchmarks.suites.growth import growth
from benchmarks.suites.ingest import ingest
from benchmarks.suites.load import load
from benchmarks.suites.memory import memory
from benchmarks.suites.quality import quality
from benchmarks.suites.ray import ray
from benchmarks.suites.rerank import rerank
from benchmarks.suites.rest import rest
from benchmarks.suites.scale import scale
from benchmarks.suites.search import search
from benchmarks.suites.stack import stack
from benchmarks.suites.start import demo, up

Suite = Callable[[Bench], SuiteReport]

SUITES: Mapping[str, Suite] = {
    "search": search,
    "filter": filter,
    "load": load,
    "growth": growth,
    "scale": scale,
    "rest": rest,
    "ask": ask,
    "chat": chat,
    "quality": quality,
    "rerank": rerank,
    "embed": embed,
    "memory": memory,
    "ingest": ingest,
    "stack": stack,
    "ray": ray,
    "up": up,
    "demo": demo,
}
