"""What a history asks other services: tokens and vectors of texts, and summaries."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace

from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation

from engine.types import Vector
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.rpc.values import vector_value

MODEL = "embeddingModels/default"
COUNTED_MAX = 1_024
EMBEDDED_CHARACTERS_MAX = 2_000
"""Of a turn: more than the default model reads."""
SUMMARY_SHARE = 0.5
"""Of the time that the caller has left, for a summary; without it there is still an answer."""
SUMMARY_S = 30.0

_WISH = (
    "Summarize this conversation for somebody who goes on with it: what was asked and answered, "
    "names, numbers, dates, decisions, wishes, and what is still open. Passages are its messages "
    "in their order; the first may be a summary of what came before."
)
_MARKER = re.compile(r"\s*\[\d+\]")


class MeshSiblings:
    """The siblings as `SessionHistory` sees them, for one call."""

    def __init__(self, mesh: Mesh, call: Call, model: str) -> None:
        """`model` is who summarizes, `generationModels/{id}`."""
        self.model = model
        self._mesh = mesh
        self._call = call

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, as the default embedding model counts them."""
        counts: list[int] = []
        for start in range(0, len(texts), COUNTED_MAX):
            response = await self._mesh.embedding.CountTokens(
                embedding.CountTokensRequest(model=MODEL, texts=texts[start : start + COUNTED_MAX]),
                self._call,
            )
            counts += response.tokens
        return counts

    async def embed(self, question: str, texts: Sequence[str]) -> tuple[Vector, list[Vector]]:
        """Vectors of unit length: the question's, and each text's."""
        kinds = (embedding.INPUT_KIND_QUERY, embedding.INPUT_KIND_PASSAGE)
        given = ([question], [text[:EMBEDDED_CHARACTERS_MAX] for text in texts])
        found: list[list[Vector]] = []
        for kind, some in zip(kinds, given, strict=True):
            response = await self._mesh.embedding.EmbedTexts(
                embedding.EmbedTextsRequest(
                    model=MODEL, texts=some, input_kind=kind, truncate=True
                ),
                self._call,
            )
            found.append([vector_value(made.vector, "text") for made in response.embeddings])
        return found[0][0], found[1]

    async def can_summarize(self) -> bool:
        """Whether the model writes in words of its own. Raises GenerationModelNotFound."""
        get = self._mesh.method("generation", "GetGenerationModel")
        response = await get(generation.GetGenerationModelRequest(name=self.model), self._call)
        backend: int = response.generation_model.backend
        return backend != generation.GenerationModel.BACKEND_EXTRACTIVE

    async def summarize(self, texts: Sequence[str], tokens_max: int) -> str:
        """The texts in short; empty where the model has nothing to say of them."""
        limit_s = SUMMARY_S
        remaining_s = self._call.remaining_s()
        if remaining_s is not None:
            limit_s = min(limit_s, remaining_s * SUMMARY_SHARE)
        call = replace(self._call, deadline_s=time.monotonic() + limit_s)
        passages = [
            citation_pb2.SourcePassage(collection="collections/session", point_id=str(i), text=text)
            for i, text in enumerate(texts)
        ]
        response = await self._mesh.generation.GenerateText(
            generation.GenerateTextRequest(
                model=self.model,
                question=_WISH,
                passages=passages,
                output_tokens_max=tokens_max,
            ),
            call,
        )
        return _MARKER.sub("", response.text).strip()
