"""What the tests of the generation service share: a node, passages and requests."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import dataclass

from ragmesh.api.embedding.v1.vector_pb2 import TextSpan
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from services.generation.servicer import GenerationServicer
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from tests.services.generation.openai_endpoint import Endpoint

KEY = "sk-a-key-that-must-not-be-seen"
WRITER = "generationModels/writer"
TEXTS = (
    "Zürich lies on a lake. Its water freezes only in very cold winters.",
    "The railway reached the town in 1847. It was called the Spanish Bread Railway.",
)


@dataclass(frozen=True)
class GenerationNode:
    """What the tests of this directory talk to."""

    mesh: Mesh
    endpoint: Endpoint
    threads: Executor
    servicer: GenerationServicer


def call(seconds: float | None = 20.0) -> Call:
    return Call("default", "r1", None if seconds is None else time.monotonic() + seconds)


def passages() -> list[citation_pb2.SourcePassage]:
    return [
        citation_pb2.SourcePassage(
            collection="collections/towns",
            point_id=f"p{index}",
            document=f"collections/towns/documents/d{index}" if index else "",
            passage_index=index,
            text=text,
            span=TextSpan(start=1000 * index, end=1000 * index + len(text)),
        )
        for index, text in enumerate(TEXTS)
    ]


def unary(**fields: object) -> pb.GenerateTextRequest:
    given = {"model": WRITER, "question": "When did the railway come?", "passages": passages()}
    return pb.GenerateTextRequest(**{**given, **fields})  # type: ignore[arg-type]


def streamed(**fields: object) -> pb.StreamGenerateTextRequest:
    given = {"model": WRITER, "question": "When did the railway come?", "passages": passages()}
    return pb.StreamGenerateTextRequest(**{**given, **fields})  # type: ignore[arg-type]
