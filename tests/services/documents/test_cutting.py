"""A text is cut the same by a node, piece by piece over the mesh, as by the engine at once."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from engine.documents.chunk import Strategy, chunk
from engine.documents.parsed import Draft, Parsed, assemble
from engine.types import Matrix
from services.documents.cutting import EMBED_UNITS_MAX, cut_document
from services.store.collections import Collection

pytestmark = pytest.mark.asyncio


def _count(texts: Sequence[str]) -> list[int]:
    return [2 + len(text.split()) for text in texts]


def _embed(texts: Sequence[str]) -> Matrix:
    vectors = np.full((len(texts), 16), 0.1, np.float32)
    for row, text in enumerate(texts):
        for letter in text:
            vectors[row, ord(letter) % 16] += 1
    return vectors


def _parsed() -> Parsed:
    rng = np.random.default_rng(11)
    words = ["apple", "orbit", "quartz", "zebra", "violin", "harbor", "fjord", "mint"]
    drafts = []
    for section in range(12):
        drafts.append(Draft("heading", f"Section {section}", level=1))
        for _ in range(8):
            said = [" ".join(rng.choice(words, 9)).capitalize() + "." for _ in range(9)]
            drafts.append(Draft("paragraph", " ".join(said)))
    return assemble("Words", "text/plain", drafts)


@pytest.mark.parametrize("strategy", ["structure", "semantic", "hierarchical"])
async def test_a_node_cuts_as_the_engine_does(strategy: Strategy) -> None:
    parsed, asked = _parsed(), list[int]()

    async def count(texts: Sequence[str]) -> list[int]:
        return _count(texts)

    async def embed(texts: Sequence[str]) -> Matrix:
        asked.append(len(texts))
        return _embed(texts)

    collection = cast(
        Collection,
        SimpleNamespace(chunk_tokens_max=120, chunk_overlap_tokens=20, chunk_strategy=strategy),
    )
    made = await cut_document(collection, parsed, count, embed)
    assert made == chunk(
        parsed, _count, tokens_max=120, overlap_tokens=20, strategy=strategy, embed=_embed
    )
    assert len(made) > 50
    assert (len(asked) >= 3) == (strategy == "semantic")
    assert all(texts <= EMBED_UNITS_MAX for texts in asked)
