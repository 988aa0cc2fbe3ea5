"""The vectors that the mesh returns are those that sentence-transformers makes of the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from ragmesh.api.embedding.v1 import embedding_model_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.models.precision import has_int8_products
from engine.types import Vector
from tests.behaviour.given import new_id, unpacked
from tests.behaviour.rungs import Rung

GOLDEN = Path(__file__).parents[1] / "golden" / "minilm"
MODEL = "embeddingModels/default"
EXACT = "embeddingModels/exact"
"""The same in fp32."""
COSINE_MIN, BATCH_COSINE_MIN = 0.99999, 0.9999
EVERY = 4
"""The engine's tests compare every text; here it is about the ways to it."""


def cosine(left: Vector, right: Vector) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


async def vectors(rung: Rung, model: str, texts: list[str]) -> list[Vector]:
    """The vectors of texts that may be cut."""
    request = pb.EmbedTextsRequest(model=model, texts=texts, truncate=True)
    response = await rung.call("EmbedTexts", request)
    assert len(response.embeddings) == len(texts)
    return [unpacked(made.vector) for made in response.embeddings]


async def described(rung: Rung, model: str) -> embedding_model_pb2.EmbeddingModel:
    """A model, as it says of itself."""
    response = await rung.call("GetEmbeddingModel", pb.GetEmbeddingModelRequest(name=model))
    assert isinstance(response, pb.GetEmbeddingModelResponse)
    return response.embedding_model


async def test_golden_texts_in_the_checkpoints_own_precision(rung: Rung) -> None:
    texts = json.loads((GOLDEN / "texts.json").read_text())[::EVERY]
    expected = np.load(GOLDEN / "embeddings.npy")[::EVERY]
    together = await vectors(rung, EXACT, texts)
    assert min(map(cosine, together, expected)) >= COSINE_MIN
    (alone,) = await vectors(rung, EXACT, texts[:1])
    assert cosine(alone, expected[0]) >= COSINE_MIN
    assert (await described(rung, EXACT)).precision == "fp32"


async def test_golden_texts_in_the_default_precision(rung: Rung) -> None:
    """int8 where the processor has the instructions for it; else it is fp32."""
    texts = json.loads((GOLDEN / "texts.json").read_text())[::EVERY]
    expected = np.load(GOLDEN / "embeddings.npy")[::EVERY]
    model = await described(rung, MODEL)
    assert model.precision == ("int8" if has_int8_products() else "fp32")
    least, median_least = (0.98, 0.99) if model.precision == "int8" else (COSINE_MIN, COSINE_MIN)
    together = await vectors(rung, MODEL, texts)
    cosines = list(map(cosine, together, expected))
    assert min(cosines) >= least and np.median(cosines) >= median_least
    for text, vector in zip(texts[:5], together, strict=False):
        (alone,) = await vectors(rung, MODEL, [text])
        assert cosine(alone, vector) >= BATCH_COSINE_MIN


async def test_counts_and_models_agree_with_what_is_embedded(rung: Rung) -> None:
    texts = ["", "one", "two words", "日本語 and ümlauts"]
    embedded = await rung.call("EmbedTexts", pb.EmbedTextsRequest(model=MODEL, texts=texts))
    counted = await rung.call("CountTokens", pb.CountTokensRequest(model=MODEL, texts=texts))
    special = embedded.embeddings[0].tokens
    assert list(counted.tokens) == [e.tokens - special for e in embedded.embeddings]
    model = await described(rung, MODEL)
    assert model.fingerprint == embedded.fingerprint
    assert len(embedded.embeddings[1].vector.packed) == 4 * model.dimensions


async def test_models_say_what_they_are(rung: Rung) -> None:
    embed, rerank = embedding_model_pb2.MODEL_TASK_EMBED, embedding_model_pb2.MODEL_TASK_RERANK
    answer = await rung.call("ListEmbeddingModels", pb.ListEmbeddingModelsRequest())
    models = {
        model.name.removeprefix("embeddingModels/"): model for model in answer.embedding_models
    }
    assert list(models) == sorted(models)
    own = await described(rung, MODEL)
    assert models.pop(own.display_name) == own
    assert (own.task, own.loaded, list(own.dimensions_offered)) == (embed, True, [384])
    assert 20_000 < own.memory_kib < 400_000
    assert {name: (m.task, m.dimensions) for name, m in models.items()} == {
        "exact": (embed, 384),
        "judge": (rerank, 0),
    }


async def test_a_reply_says_where_the_time_went_and_how_texts_were_batched(rung: Rung) -> None:
    words = ("red", "green", "blue", "white")
    texts = [f"{word} {new_id('timings')}" for word in words]  # none is in a cache
    request = pb.EmbedTextsRequest(model=MODEL, texts=texts)
    sent = await rung.call("EmbedTexts", request)
    timings = sent.timings
    assert (timings.lane, timings.cached_texts) == (pb.LANE_INTERACTIVE, 0)
    assert 1 <= timings.batch_texts <= len(texts) and 0 <= timings.padding_share < 1
    assert timings.tokenize_ms > 0 and timings.inference_ms > 0 and timings.queue_wait_ms >= 0
    other = pb.EmbedTextsRequest(model=MODEL, texts=[new_id("timings")])
    bulk = await rung.call("EmbedTexts", other, headers={"x-ragmesh-lane": "bulk"})
    assert bulk.timings.lane == pb.LANE_BULK
    assert bulk.timings.batch_texts == 1 and bulk.timings.padding_share == 0
    assert bulk.fingerprint == sent.fingerprint


async def test_a_text_that_was_embedded_before_comes_from_the_cache(rung: Rung) -> None:
    texts = [new_id("cached"), new_id("cached")]
    first = await rung.call("EmbedTexts", pb.EmbedTextsRequest(model=MODEL, texts=texts))
    again = await rung.call("EmbedTexts", pb.EmbedTextsRequest(model=MODEL, texts=texts))
    assert list(again.embeddings) == list(first.embeddings)
    assert (first.timings.cached_texts, again.timings.cached_texts) == (0, 2)
    assert (again.timings.batch_texts, again.timings.inference_ms) == (0, 0)
    half = pb.EmbedTextsRequest(model=MODEL, texts=[new_id("cached"), texts[0]])
    third = await rung.call("EmbedTexts", half)
    assert third.embeddings[1] == first.embeddings[0]
    assert (third.timings.cached_texts, third.timings.batch_texts) == (1, 1)


async def test_a_long_text_is_refused_or_cut_as_asked(rung: Rung) -> None:
    long = "word " * 1_000
    request = pb.EmbedTextsRequest(model=MODEL, texts=[long, "short"], truncate=True)
    cut, whole = (await rung.call("EmbedTexts", request)).embeddings
    model = await rung.call("GetEmbeddingModel", pb.GetEmbeddingModelRequest(name=MODEL))
    assert (cut.truncated, whole.truncated) == (True, False)
    assert cut.tokens == model.embedding_model.tokens_max
