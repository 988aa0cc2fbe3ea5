"""Texts are cut at the model's own bound, counted whole, and refused where they are no text."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidField, TextTooLong
from engine.models import default
from engine.models.encoder import Encoder
from engine.models.model_dir import Kind

LONG = "word " * 400


def test_the_bound_is_the_models_and_not_the_tokenizer_files(encoder: Encoder) -> None:
    """tokenizer.json says 128; sentence_bert_config.json says 256."""
    (cut,) = encoder.tokenize([LONG], "passage", truncate=True)
    assert (cut.tokens, cut.tokens_total, cut.truncated) == (256, 402, True)
    (whole,) = encoder.tokenize(["word " * 254], "passage")
    assert (whole.tokens, whole.truncated) == (256, False)


def test_a_text_that_is_too_long_is_refused_with_its_place_and_the_bound(encoder: Encoder) -> None:
    with pytest.raises(TextTooLong) as caught:
        encoder.tokenize(["fine", "fine too", LONG], "passage")
    assert caught.value.field == "texts[2]"
    assert caught.value.metadata == {"index": "2", "tokens": "402", "tokens_max": "256"}
    for value in caught.value.metadata.values():
        assert value in caught.value.message


def test_nothing_is_padded(encoder: Encoder) -> None:
    assert [t.tokens for t in encoder.tokenize(["", "a", "a b"], "passage")] == [2, 3, 4]


def test_counting_is_tokenizing_without_the_cut(encoder: Encoder, golden_texts: list[str]) -> None:
    texts = [*golden_texts, LONG, LONG * 3]
    counted = encoder.count_tokens(texts)
    tokenized = encoder.tokenize(texts, "passage", truncate=True)
    assert counted == [t.tokens_total for t in tokenized]
    assert counted[-2:] == [402, 1202]


def test_texts_larger_than_a_group_of_the_tokenizer_keep_their_order(encoder: Encoder) -> None:
    texts = ["a", "a " * 150_000, "b b", "c " * 130_000, "d d d"]
    assert encoder.count_tokens(texts) == [3, 150_002, 4, 130_002, 5]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=6))
def test_offsets_point_into_the_text(encoder: Encoder, texts: list[str]) -> None:
    for text, tokenized in zip(
        texts, encoder.tokenize(texts, "passage", truncate=True), strict=True
    ):
        assert tokenized.special[0] and tokenized.special[-1]
        real = tokenized.offsets[~tokenized.special]
        assert (real[:, 0] < real[:, 1]).all()
        assert (real >= 0).all() and (real <= len(text)).all()
        assert (np.diff(real[:, 0]) >= 0).all()
        assert not tokenized.offsets[tokenized.special].any()


def test_offsets_count_code_points(encoder: Encoder) -> None:
    text = "😀 naïve 中文 done"
    (tokenized,) = encoder.tokenize([text], "passage")
    pieces = [text[a:b] for a, b in tokenized.offsets[~tokenized.special]]
    assert pieces[-1] == "done" and "中" in pieces and "naïve" in pieces


@pytest.mark.parametrize("text", ["\ud800", "fine \udcff tail", "\ud83d\ude00"])
def test_a_lone_surrogate_is_refused_with_its_place(encoder: Encoder, text: str) -> None:
    for call in (encoder.count_tokens, lambda t: encoder.tokenize(t, "query")):
        with pytest.raises(InvalidField, match=r"U\+D") as caught:
            call(["fine", text])
        assert caught.value.field == "texts[1]"


def test_an_unknown_kind_is_refused(encoder: Encoder) -> None:
    with pytest.raises(InvalidField, match="query, passage"):
        encoder.tokenize(["text"], cast(Kind, "document"))


def test_tokens_parallelism_does_not_matter(encoder: Encoder, golden_texts: list[str]) -> None:
    code = (
        "import json, sys; from pathlib import Path; "
        "from engine.models import model_dir, tokenize; "
        "t = tokenize.TextTokenizer(model_dir.read(Path(sys.argv[1]))); "
        "print(json.dumps(t.count(json.load(sys.stdin))))"
    )
    import json

    for setting in ("true", "false"):
        run = subprocess.run(
            [sys.executable, "-c", code, str(default.directory())],
            input=json.dumps(golden_texts),
            env={**os.environ, "TOKENIZERS_PARALLELISM": setting},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(run.stdout) == encoder.count_tokens(golden_texts)
