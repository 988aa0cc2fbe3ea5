"""The vectors that the mesh returns are those that sentence-transformers makes of the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.types import Vector
from tests.behaviour.given import unpacked
from tests.behaviour.rungs import Rung

GOLDEN = Path(__file__).parents[1] / "golden" / "minilm"
MODEL = "embeddingModels/default"
COSINE_MIN = 0.99999
EVERY = 4
"""The engine's tests compare every text; here it is about the ways to it."""


def cosine(left: Vector, right: Vector) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


async def test_golden_texts(rung: Rung) -> None:
    texts = json.loads((GOLDEN / "texts.json").read_text())[::EVERY]
    expected = np.load(GOLDEN / "embeddings.npy")[::EVERY]
    request = pb.EmbedTextsRequest(model=MODEL, texts=texts, truncate=True)
    response = await rung.call("EmbedTexts", request)
    assert len(response.embeddings) == len(texts) == len(expected)
    worst = min(
        cosine(unpacked(made.vector), row)
        for made, row in zip(response.embeddings, expected, strict=True)
    )
    assert worst >= COSINE_MIN
    alone = await rung.call("EmbedTexts", pb.EmbedTextsRequest(model=MODEL, texts=texts[:1]))
    assert cosine(unpacked(alone.embeddings[0].vector), expected[0]) >= COSINE_MIN
    assert alone.fingerprint == response.fingerprint


async def test_counts_and_models_agree_with_what_is_embedded(rung: Rung) -> None:
    texts = ["", "one", "two words", "日本語 and ümlauts"]
    embedded = await rung.call("EmbedTexts", pb.EmbedTextsRequest(model=MODEL, texts=texts))
    counted = await rung.call("CountTokens", pb.CountTokensRequest(model=MODEL, texts=texts))
    special = embedded.embeddings[0].tokens
    assert list(counted.tokens) == [e.tokens - special for e in embedded.embeddings]
    model = (
        await rung.call("GetEmbeddingModel", pb.GetEmbeddingModelRequest(name=MODEL))
    ).embedding_model
    listed = await rung.call("ListEmbeddingModels", pb.ListEmbeddingModelsRequest())
    assert list(listed.embedding_models) == [model]
    assert model.fingerprint == embedded.fingerprint
    assert len(embedded.embeddings[1].vector.packed) == 4 * model.dimensions


async def test_a_long_text_is_refused_or_cut_as_asked(rung: Rung) -> None:
    long = "word " * 1_000
    request = pb.EmbedTextsRequest(model=MODEL, texts=[long, "short"], truncate=True)
    cut, whole = (await rung.call("EmbedTexts", request)).embeddings
    model = await rung.call("GetEmbeddingModel", pb.GetEmbeddingModelRequest(name=MODEL))
    assert (cut.truncated, whole.truncated) == (True, False)
    assert cut.tokens == model.embedding_model.tokens_max
