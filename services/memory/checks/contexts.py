"""Requests about what is read of sessions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.message import Message
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from services.rpc import fields, names
from services.rpc.chain import Check

QUESTION_CHARACTERS_MAX = 10_000
TOKENS_MAX = 32_768
INDEX_MAX = 2**31 - 1


def _context(request: pb.GetSessionContextRequest) -> None:
    names.parse(request.name, "sessions/*", "name")
    if request.HasField("leaf_index"):
        fields.number(request.leaf_index, "leaf_index", 0, INDEX_MAX)
    fields.characters(request.question, "question", QUESTION_CHARACTERS_MAX)
    fields.number(request.tokens_max, "tokens_max", 0, TOKENS_MAX)
    fields.enum(request, "older")
    if request.generation_model:
        names.parse(request.generation_model, "generationModels/*", "generation_model")


CHECKS: Mapping[type[Message], Check] = MappingProxyType({pb.GetSessionContextRequest: _context})
