"""Every malformed request of the generation service is refused with the field at fault."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from ragmesh.api.embedding.v1.vector_pb2 import SentenceVector, TextSpan
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.errors import GenerationModelNotFound, InvalidField, InvalidPageToken
from services.config_generation import GenerationSettings, OpenAIModel
from services.generation.servicer import GenerationServicer
from tests.services.generation.generation_mesh import GenerationNode, call, streamed, unary

Change = Callable[[Any], object]


def sentence(start: int, end: int, size: int = 384) -> SentenceVector:
    return SentenceVector(span=TextSpan(start=start, end=end), int8_vector=b"\x01" * size)


BAD: list[tuple[str, Change]] = [
    ("model", lambda r: setattr(r, "model", "")),
    ("model", lambda r: setattr(r, "model", "embeddingModels/default")),
    ("question", lambda r: setattr(r, "question", "")),
    ("question", lambda r: setattr(r, "question", "q" * 10_001)),
    ("passages", lambda r: r.passages.extend([r.passages[0]] * 99)),
    ("passages[1].collection", lambda r: setattr(r.passages[1], "collection", "towns")),
    ("passages[1].point_id", lambda r: setattr(r.passages[1], "point_id", "")),
    ("passages[1].point_id", lambda r: setattr(r.passages[1], "point_id", "p0")),
    ("passages[1].text", lambda r: setattr(r.passages[1], "text", "")),
    ("passages[1].text", lambda r: setattr(r.passages[1], "text", "t" * 100_001)),
    ("passages[1].passage_index", lambda r: setattr(r.passages[1], "passage_index", -1)),
    ("passages[1].document", lambda r: setattr(r.passages[1], "document", "documents/d")),
    ("passages[1].span", lambda r: r.passages[1].ClearField("span")),
    ("passages[1].span", lambda r: setattr(r.passages[1].span, "start", 1001)),
    ("passages[1].span", lambda r: setattr(r.passages[1].span, "start", -1)),
    ("passages[0].sentences[0].span", lambda r: r.passages[0].sentences.append(sentence(5, 4))),
    ("passages[0].sentences[0].span", lambda r: r.passages[0].sentences.append(sentence(0, 999))),
    (
        "passages[0].sentences[1].int8_vector",
        lambda r: r.passages[0].sentences.extend([sentence(0, 4), sentence(4, 9, 8)]),
    ),
    (
        "passages[0].sentences[0].int8_vector",
        lambda r: r.passages[0].sentences.append(sentence(0, 4, 0)),
    ),
    ("output_tokens_max", lambda r: setattr(r, "output_tokens_max", -1)),
    ("output_tokens_max", lambda r: setattr(r, "output_tokens_max", 32_769)),
    ("temperature", lambda r: setattr(r, "temperature", 2.1)),
    ("temperature", lambda r: setattr(r, "temperature", -0.1)),
    ("temperature", lambda r: setattr(r, "temperature", math.nan)),
]


@pytest.mark.parametrize(("field", "change"), BAD)
async def test_a_malformed_request_names_its_field(
    generation_node: GenerationNode, field: str, change: Change
) -> None:
    whole, stream = unary(), streamed()
    change(whole)
    change(stream)
    with pytest.raises(InvalidField) as caught:
        await generation_node.mesh.generation.GenerateText(whole, call())
    assert caught.value.field == field
    with pytest.raises(InvalidField) as caught:
        await anext(generation_node.mesh.generation.StreamGenerateText(stream, call()))
    assert caught.value.field == field


async def test_models_are_listed_by_name_page_by_page(generation_node: GenerationNode) -> None:
    models = generation_node.mesh.method("generation", "ListGenerationModels")
    seen, token = [], ""
    while True:
        page = await models(pb.ListGenerationModelsRequest(page_size=3, page_token=token), call())
        seen += [model.name.removeprefix("generationModels/") for model in page.generation_models]
        token = page.next_page_token
        if not token:
            break
        assert len(page.generation_models) == 3
    assert seen == ["extractive", "gone", "hasty", "writer"]


async def test_pages_are_checked(generation_node: GenerationNode) -> None:
    models = generation_node.mesh.method("generation", "ListGenerationModels")
    with pytest.raises(InvalidField):
        await models(pb.ListGenerationModelsRequest(page_size=1_001), call())
    with pytest.raises(InvalidPageToken):
        await models(pb.ListGenerationModelsRequest(page_token="x"), call())


async def test_a_model_is_found_by_name(generation_node: GenerationNode) -> None:
    get = generation_node.mesh.method("generation", "GetGenerationModel")
    found = await get(pb.GetGenerationModelRequest(name="generationModels/extractive"), call())
    assert found.generation_model.backend == pb.GenerationModel.BACKEND_EXTRACTIVE
    with pytest.raises(GenerationModelNotFound):
        await get(pb.GetGenerationModelRequest(name="generationModels/none"), call())
    with pytest.raises(InvalidField):
        await get(pb.GetGenerationModelRequest(name="none"), call())


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            GenerationSettings(
                openai=(OpenAIModel(id="extractive", url="http://127.0.0.1:9/v1", model="m"),)
            ),
            InvalidField,
        ),
        (
            GenerationSettings(
                openai=(OpenAIModel(id="Big Model", url="http://127.0.0.1:9/v1", model="m"),)
            ),
            InvalidField,
        ),
        (GenerationSettings(default="generationModels/none"), GenerationModelNotFound),
    ],
)
async def test_a_configuration_that_contradicts_itself_does_not_start(
    generation_node: GenerationNode, settings: GenerationSettings, error: type[Exception]
) -> None:
    servicer = GenerationServicer(settings, generation_node.mesh, generation_node.threads)
    with pytest.raises(error):
        await servicer.start()
