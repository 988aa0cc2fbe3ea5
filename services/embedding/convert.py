"""Between the contract's messages and the engine's values."""

from __future__ import annotations

from ragmesh.api.embedding.v1 import embedding_model_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.models.encoder import Encoder
from engine.models.model_dir import Kind
from services.embedding.core import Embedded
from services.rpc.values import sentence_messages, vector_message

KINDS: dict[int, Kind] = {
    pb.INPUT_KIND_UNSPECIFIED: "passage",
    pb.INPUT_KIND_QUERY: "query",
    pb.INPUT_KIND_PASSAGE: "passage",
}


def embed_response(embedded: Embedded) -> pb.EmbedTextsResponse:
    """The answer of EmbedTexts."""
    response = pb.EmbedTextsResponse(fingerprint=embedded.fingerprint)
    for text, done in zip(embedded.texts, embedded.done, strict=True):
        response.embeddings.add(
            vector=vector_message(done.result.vector),
            tokens=text.tokens,
            truncated=text.truncated,
            sentences=sentence_messages(done.result.sentences),
        )
    response.timings.tokenize_ms = embedded.tokenize_ms
    response.timings.queue_wait_ms = max(d.queue_wait_ms for d in embedded.done)
    response.timings.inference_ms = sum({d.batch: d.inference_ms for d in embedded.done}.values())
    return response


def model_message(model_id: str, encoder: Encoder) -> embedding_model_pb2.EmbeddingModel:
    """A model as listed."""
    return embedding_model_pb2.EmbeddingModel(
        name=f"embeddingModels/{model_id}",
        display_name=encoder.name,
        dimensions=encoder.dimensions,
        tokens_max=encoder.tokens_max,
        fingerprint=encoder.fingerprint.text,
        provider=encoder.provider,
        precision=encoder.fingerprint.precision,
    )
