"""Vectors are what their definition says of the token outputs: texts and sentences alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.models import convert, default, model_dir, providers
from engine.models.encoder import Encoder
from engine.models.pool import normalize, pool
from engine.models.sentences import split
from engine.models.tokenize import Tokenized

TEXT = (
    "The estrogen receptor is a transcription factor. It was mapped by Smith et al. in 2006 "
    "at 3.5 kb. Binding sites were found genome-wide!\n\n- Each site was validated."
)

Run = Callable[[Tokenized], NDArray[np.float32]]


@pytest.fixture(scope="module")
def token_outputs(cache_dir: Path) -> Run:
    """The graph's raw output for one text, by a session of the test's own."""
    file = convert.onnx_file(model_dir.read(default.directory()), cache_dir)
    session = providers.open_session(file, "cpu", 1)

    def run(tokenized: Tokenized) -> NDArray[np.float32]:
        ids = tokenized.ids[np.newaxis]
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        output: NDArray[np.float32] = session.run(None, feed)[0][0]
        return output

    return run


def test_token_outputs_averaged_by_hand_are_the_vector(
    encoder: Encoder, token_outputs: Run
) -> None:
    (tokenized,) = encoder.tokenize([TEXT], "passage")
    mean = token_outputs(tokenized).astype(np.float64).mean(axis=0)
    vector = encoder.forward([tokenized]).vectors[0]
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_sentence_vectors_are_the_tokens_of_their_span(
    encoder: Encoder, token_outputs: Run
) -> None:
    (tokenized,) = encoder.tokenize([TEXT], "passage")
    outputs = token_outputs(tokenized)
    (sentences,) = encoder.forward([tokenized], sentences=True).sentences
    assert [TEXT[a:b].split()[0] for a, b in sentences.spans] == ["The", "It", "Binding", "-"]
    for (start, end), vector in zip(sentences.spans, sentences.vectors, strict=True):
        inside = [
            row
            for row, (a, b) in enumerate(tokenized.offsets)
            if not tokenized.special[row] and start <= a and b <= end
        ]
        mean = outputs[inside].mean(axis=0)
        expected = mean / np.linalg.norm(mean)
        assert np.abs(vector / 127 - expected).max() <= 0.5 / 127 + 1e-5
        assert abs(np.linalg.norm(vector / 127.0) - 1) < 0.02


def test_sentences_do_not_depend_on_the_batch(encoder: Encoder, golden_texts: list[str]) -> None:
    texts = golden_texts[:6]
    together = encoder.embed(texts, "passage", truncate=True, sentences=True).sentences
    for text, batched in zip(texts, together, strict=True):
        (alone,) = encoder.embed([text], "passage", truncate=True, sentences=True).sentences
        np.testing.assert_array_equal(alone.spans, batched.spans)
        difference = alone.vectors.astype(int) - batched.vectors.astype(int)
        assert np.abs(difference).max() <= 1  # a last bit may tip the rounding


def test_sentences_beyond_the_cut_are_left_out(encoder: Encoder) -> None:
    text = " ".join(f"This is sentence number {i}." for i in range(100))
    (sentences,) = encoder.embed([text], "passage", truncate=True, sentences=True).sentences
    (tokenized,) = encoder.tokenize([text], "passage", truncate=True)
    last_read = int(tokenized.offsets[:, 1].max())
    expected = [(s.start, s.end) for s in split(text) if s.start < last_read]
    assert 0 < len(expected) < 100
    assert [tuple(span) for span in sentences.spans.tolist()] == expected


def test_a_sentence_without_tokens_is_left_out(encoder: Encoder) -> None:
    """The tokenizer drops control characters."""
    text = "One sentence here.\n\n\u0001\n\nAnother one."
    (sentences,) = encoder.embed([text], "passage", sentences=True).sentences
    assert [text[a:b] for a, b in sentences.spans] == ["One sentence here.", "Another one."]


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.sampled_from("aB1. \n-!?é中。\u0001"), max_size=60))
def test_any_text_has_sentences_within_it(encoder: Encoder, text: str) -> None:
    encoded = encoder.embed([text], "passage", sentences=True)
    (sentences,) = encoded.sentences
    assert sentences.vectors.shape == (len(sentences.spans), encoder.dimensions)
    assert np.isfinite(encoded.vectors).all()
    known = {(s.start, s.end) for s in split(text)}
    assert {tuple(span) for span in sentences.spans.tolist()} <= known


def test_cls_pooling_is_the_first_token() -> None:
    tokens = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    first = tokens[:, 0] / np.linalg.norm(tokens[:, 0], axis=1, keepdims=True)
    np.testing.assert_allclose(pool(tokens, [2, 5], "cls"), first, atol=1e-6)


def test_padding_cannot_reach_a_vector() -> None:
    tokens = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    expected = pool(tokens, [2, 5], "mean")
    tokens[0, 2:] = np.nan
    np.testing.assert_array_equal(pool(tokens, [2, 5], "mean"), expected)


def test_a_vector_of_zeros_stays_finite() -> None:
    assert not normalize(np.zeros((1, 4), np.float32)).any()
