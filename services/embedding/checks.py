"""What makes a request of the embedding service wrong whatever the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from google.protobuf.message import Message
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from services.rpc import fields, names, paging
from services.rpc.chain import Check

TEXTS_MAX = 1_024
COUNTED_TEXTS_MAX = 4_096
PASSAGES_MAX = 1_024
TEXT_CHARACTERS_MAX = 1_000_000
DIMENSIONS_MAX = 4_096
PRIOR_SCORE_MAX = 1e6


def _texts(texts: Sequence[str], most: int, field: str = "texts") -> None:
    fields.items(texts, field, most)
    for index, text in enumerate(texts):
        if len(text) > TEXT_CHARACTERS_MAX:
            fields.characters(text, f"{field}[{index}]", TEXT_CHARACTERS_MAX)


def _embed(request: pb.EmbedTextsRequest) -> None:
    names.parse(request.model, "embeddingModels/*", "model")
    _texts(request.texts, TEXTS_MAX)
    fields.number(request.dimensions, "dimensions", 0, DIMENSIONS_MAX)
    fields.enum(request, "input_kind")


def _rerank(request: pb.RerankPassagesRequest) -> None:
    names.parse(request.model, "embeddingModels/*", "model")
    fields.characters(request.query, "query", TEXT_CHARACTERS_MAX, least=1)
    _texts(request.passages, PASSAGES_MAX, "passages")
    prior = request.prior_scores
    if prior:
        fields.items(prior, "prior_scores", len(request.passages), least=len(request.passages))
    for index, score in enumerate(prior):
        fields.number(score, f"prior_scores[{index}]", -PRIOR_SCORE_MAX, PRIOR_SCORE_MAX)


def _count(request: pb.CountTokensRequest) -> None:
    names.parse(request.model, "embeddingModels/*", "model")
    _texts(request.texts, COUNTED_TEXTS_MAX)


def _list(request: pb.ListEmbeddingModelsRequest) -> None:
    paging.page_size(request.page_size)


def _get(request: pb.GetEmbeddingModelRequest) -> None:
    names.parse(request.name, "embeddingModels/*", "name")


CHECKS: Mapping[type[Message], Check] = MappingProxyType(
    {
        pb.EmbedTextsRequest: _embed,
        pb.RerankPassagesRequest: _rerank,
        pb.CountTokensRequest: _count,
        pb.ListEmbeddingModelsRequest: _list,
        pb.GetEmbeddingModelRequest: _get,
    }
)
