"""Passages with sentences and vectors, small enough to see through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.answers.evidence import Passage
from engine.answers.words import terms
from engine.documents.chunk import chunk
from engine.documents.embedding import embedding_text, passage_sentences
from engine.documents.parse import parse_document
from engine.models import sentences
from engine.models.encoder import Encoder
from engine.types import Sentences, Vector

DIMENSIONS = 64
FILES = Path(__file__).parents[3] / "corpus" / "files"


def vector(text: str) -> Vector:
    """A vector of norm 1 by which texts with words in common are near each other."""
    out = np.full(DIMENSIONS, 0.01, np.float32)
    for term in terms(text):
        out[sum(map(ord, term)) % DIMENSIONS] += 1
    return np.asarray(out / np.linalg.norm(out), np.float32)


def passage(text: str, name: str = "p", *, score: float = 1.0, tokens: int = 0) -> Passage:
    """A passage of the document `name` with the vectors of `vector`."""
    spans = sentences.split(text)
    rows = [np.round(vector(text[s.start : s.end]) * 127) for s in spans]
    return Passage(
        "collections/test",
        name,
        name,
        0,
        text,
        score,
        Sentences(
            np.array([(s.start, s.end) for s in spans], np.int32).reshape(-1, 2),
            np.array(rows, np.int8).reshape(-1, DIMENSIONS),
        ),
        tokens or len(re.findall(r"\w+", text)),
    )


def passages_of_files(encoder: Encoder, names: Sequence[str]) -> list[tuple[Passage, Vector]]:
    """The passages of the demo's own files with the real model's vectors."""
    found = []
    for name in names:
        parsed = parse_document((FILES / name).read_bytes(), name)
        for index, piece in enumerate(chunk(parsed, encoder.count_tokens)):
            text = parsed.text[piece.span.start : piece.span.end]
            read = embedding_text(text, piece.context)
            encoded = encoder.embed([read], "passage", sentences=True)
            own = passage_sentences(encoded.sentences[0], text, piece.context)
            entry = Passage("c", f"{name}#{index}", name, index, text, 0.0, own, piece.tokens)
            found.append((entry, encoded.vectors[0]))
    return found
