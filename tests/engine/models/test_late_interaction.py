"""Late interaction scores what its definition says, by the words of a text and nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models import model_dir
from engine.models.encoder import Encoder
from engine.models.late import NOTHING_IN_COMMON, max_sim, token_vectors
from engine.models.pool import normalize
from engine.models.tokenize import TextTokenizer
from engine.types import Matrix
from tests.engine.models import families

TOKENS_MAX = 12
PROMPTS = ("", "red: ", "red green blue " * 8)
"""The last one is longer than a window."""

TEXTS = st.lists(st.sampled_from([*families.WORDS, "unknown", "\n"]), max_size=60).map(" ".join)


@st.composite
def rows(draw: st.DrawFn, least: int = 0) -> Matrix:
    """Token vectors of three numbers."""
    numbers = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)
    drawn = draw(st.lists(numbers, min_size=least, max_size=6))
    return normalize(np.array(drawn, np.float32).reshape(-1, 3))


@given(rows(), rows())
def test_the_score_is_the_mean_of_the_best_cosines(query: Matrix, passage: Matrix) -> None:
    if not len(query) or not len(passage):
        assert max_sim(query, passage) == NOTHING_IN_COMMON
        return
    total = 0.0
    for word in query.tolist():
        best = -math.inf
        for other in passage.tolist():
            best = max(best, sum(a * b for a, b in zip(word, other, strict=True)))
        total += best
    assert max_sim(query, passage) == pytest.approx(total / len(query), abs=1e-6)


@given(rows(least=1), rows(least=1))
def test_the_order_of_tokens_does_not_matter_and_more_of_a_passage_never_hurts(
    query: Matrix, passage: Matrix
) -> None:
    score = max_sim(query, passage)
    assert -1 - 1e-6 <= score <= 1 + 1e-6
    assert max_sim(query[::-1], passage[::-1]) == pytest.approx(score, abs=1e-6)
    assert max_sim(query, passage[:1]) <= score + 1e-6


def test_special_tokens_prompts_and_padding_are_left_out(tmp_path: Path) -> None:
    path = families.write(
        tmp_path / "model",
        "bert",
        files={"config_sentence_transformers.json": {"prompts": {"query": "red: "}}},
    )
    encoder = Encoder.load(path, tmp_path / "cache", threads=1, provider="cpu")
    (query,) = encoder.tokenize(["blueish gold"], "query")
    (longer,) = encoder.tokenize(["gold gold gold gold gold gold gold gold"], "query")
    outputs = encoder.outputs([query, longer])
    # [CLS] red : blue ##ish gold [SEP] and padding
    expected = normalize(outputs[0, 3:6])
    np.testing.assert_array_equal(token_vectors(outputs[0], query), expected)
    (empty,) = encoder.tokenize([""], "query")
    assert token_vectors(encoder.outputs([empty])[0], empty).shape == (0, encoder.dimensions)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """One that reads TOKENS_MAX tokens."""
    path = families.write(
        tmp_path_factory.mktemp("families") / "model",
        "bert",
        files={"sentence_bert_config.json": {"max_seq_length": TOKENS_MAX}},
    )
    return TextTokenizer(model_dir.read(path))


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=4), st.sampled_from(PROMPTS))
def test_windows_hold_every_token_once_and_in_order(
    tokenizer: TextTokenizer, texts: list[str], prompt: str
) -> None:
    whole = families.tokenizer(roberta=False)
    found = tokenizer.windows(texts, prompt)
    assert len(found) == len(texts)
    for text, windows in zip(texts, found, strict=True):
        everything = whole.encode(text, add_special_tokens=False)
        pieces = [window.ids[~window.special] for window in windows]
        assert np.concatenate(pieces).tolist() == everything.ids
        places = [window.offsets[~window.special] for window in windows]
        assert [tuple(place) for place in np.concatenate(places)] == everything.offsets
        assert all(window.tokens == TOKENS_MAX for window in windows[:-1])
        assert 2 <= windows[-1].tokens <= TOKENS_MAX
        assert not any(window.truncated for window in windows)
        (counted,) = tokenizer.count([prompt + text])
        assert sum(window.tokens - 2 for window in windows) == counted - 2


def test_a_text_within_one_window_is_what_is_embedded(tokenizer: TextTokenizer) -> None:
    text = "green gold wine"
    ((window,),) = tokenizer.windows([text], "red: ")
    (tokenized,) = tokenizer.tokenize([text], "red: ")
    assert window.ids.tolist() == tokenized.ids.tolist()
    assert window.special.tolist() == tokenized.special.tolist()
