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
TEXT_CHARACTERS_MAX = 1_000_000
DIMENSIONS_MAX = 4_096


def _texts(texts: Sequence[str], most: int) -> None:
    fields.items(texts, "texts", most)
    for index, text in enumerate(texts):
        if len(text) > TEXT_CHARACTERS_MAX:
            fields.characters(text, f"texts[{index}]", TEXT_CHARACTERS_MAX)


def _embed(request: pb.EmbedTextsRequest) -> None:
    names.parse(request.model, "embeddingModels/*", "model")
    _texts(request.texts, TEXTS_MAX)
    fields.number(request.dimensions, "dimensions", 0, DIMENSIONS_MAX)
    fields.enum(request, "input_kind")


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
        pb.CountTokensRequest: _count,
        pb.ListEmbeddingModelsRequest: _list,
        pb.GetEmbeddingModelRequest: _get,
    }
)
