"""What the embedding model reads of a passage, and its sentences brought back to the passage."""

from __future__ import annotations

import numpy as np

from engine.types import Sentences


def embedding_text(text: str, context: str) -> str:
    """The passage with its place in the document before it (title and headings).

    The empty line between them keeps the context from running into the first sentence.
    """
    return f"{context}\n\n{text}" if context else text


def passage_sentences(sentences: Sentences, text: str, context: str) -> Sentences:
    """The sentences of `embedding_text(text, context)` as sentences of `text`.

    Those of the context are left out, and the spans of the others counted from the start of
    `text`.
    """
    offset = len(embedding_text(text, context)) - len(text)
    kept = sentences.spans[:, 0] >= offset
    spans = (sentences.spans[kept] - offset).astype(np.int32)
    return Sentences(spans, sentences.vectors[kept])
