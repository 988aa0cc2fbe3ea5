"""The default model's vectors are those of sentence-transformers, alone and in any batch."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from engine.models.encoder import Encoder
from engine.schedule import Limits

COSINE_MIN = 0.99999


def _cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    cosines: NDArray[np.float64] = (x * y).sum(axis=1) / (
        np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    )
    return cosines


def test_each_text_alone_has_its_golden_vector(
    encoder: Encoder, golden_texts: list[str], golden_vectors: NDArray[np.float32]
) -> None:
    alone = np.concatenate(
        [
            encoder.forward(encoder.tokenize([text], "passage", truncate=True)).vectors
            for text in golden_texts
        ]
    )
    assert _cosines(alone, golden_vectors).min() >= COSINE_MIN


def test_each_text_has_its_golden_vector_in_any_batch(
    encoder: Encoder, golden_texts: list[str], golden_vectors: NDArray[np.float32]
) -> None:
    """Mixed lengths on purpose: the longest text pads the empty one 128-fold."""
    tokenized = encoder.tokenize(golden_texts, "passage", truncate=True)
    order = np.random.default_rng(0).permutation(len(tokenized))
    for batch in np.split(order, [2, 5, 12, 40]):
        vectors = encoder.forward([tokenized[i] for i in batch]).vectors
        assert _cosines(vectors, golden_vectors[batch]).min() >= COSINE_MIN


def test_embed_keeps_the_order_of_the_texts_whatever_the_batches(
    encoder: Encoder, golden_texts: list[str], golden_vectors: NDArray[np.float32]
) -> None:
    limits = Limits(batch_padded_tokens_max=300, batch_items_max=5)
    encoded = encoder.embed(golden_texts, "passage", truncate=True, limits=limits)
    assert encoded.vectors.dtype == np.float32 and encoded.vectors.flags.c_contiguous
    assert encoded.vectors.shape == (len(golden_texts), encoder.dimensions)
    assert _cosines(encoded.vectors, golden_vectors).min() >= COSINE_MIN
    assert np.abs(np.linalg.norm(encoded.vectors, axis=1) - 1).max() < 1e-5


def test_threads_that_share_an_encoder_get_the_same_vectors(
    encoder: Encoder, golden_texts: list[str], golden_vectors: NDArray[np.float32]
) -> None:
    """Short texts, all in every thread at once."""
    rows = [i for i, text in enumerate(golden_texts) if len(text) < 120]
    texts = [golden_texts[i] for i in rows]
    results: dict[int, NDArray[np.float32]] = {}

    def work(thread: int) -> None:
        order = np.random.default_rng(thread).permutation(len(texts))
        vectors = np.empty((len(texts), encoder.dimensions), np.float32)
        vectors[order] = encoder.embed([texts[i] for i in order], "passage").vectors
        results[thread] = vectors

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(threads)
    for vectors in results.values():
        assert _cosines(vectors, golden_vectors[rows]).min() >= COSINE_MIN


def test_the_empty_text_has_a_vector_and_no_sentences(encoder: Encoder) -> None:
    encoded = encoder.embed([""], "passage", sentences=True)
    assert np.isclose(np.linalg.norm(encoded.vectors[0]), 1, atol=1e-5)
    assert len(encoded.sentences[0]) == 0
    assert encoded.sentences[0].vectors.shape == (0, encoder.dimensions)


def test_no_texts_give_no_vectors(encoder: Encoder) -> None:
    assert encoder.embed([], "query").vectors.shape == (0, encoder.dimensions)
