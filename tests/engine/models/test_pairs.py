"""A query and a passage become one sequence: the query whole in each window, no token left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidField, ModelUnavailable, TextTooLong
from engine.models import model_dir
from engine.models.pairs import PairTokenizer
from tests.engine.models import families

TOKENS_MAX = 24
SPECIAL = {"bert-pairs": 3, "roberta-pairs": 4}
WORDS = st.sampled_from([*families.WORDS, "unknown", "\n", "é"])
QUERY = "red blueish gold?"


def _pairs(path: Path, name: str, tokens_max: int = TOKENS_MAX) -> PairTokenizer:
    files = {"sentence_bert_config.json": {"max_seq_length": tokens_max}}
    return PairTokenizer(model_dir.read(families.write(path / name, name, files=files)))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PairTokenizer]:
    """BERT's, with two segments and three special tokens, and RoBERTa's, with one and four."""
    path = tmp_path_factory.mktemp("families")
    return {name: _pairs(path, name) for name in SPECIAL}


def _tokens(name: str, text: str) -> list[int]:
    whole = families.tokenizer(roberta=name == "roberta-pairs")
    return list(whole.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("name", SPECIAL)
@settings(deadline=None)
@given(
    query=st.lists(WORDS, min_size=1, max_size=5).map(" ".join),
    passages=st.lists(st.lists(WORDS, max_size=50).map(" ".join), max_size=4),
)
def test_each_window_has_the_whole_query_and_together_they_have_the_whole_passage(
    tokenizers: dict[str, PairTokenizer], name: str, query: str, passages: list[str]
) -> None:
    asked = _tokens(name, query)
    found = tokenizers[name].windows(query, passages)
    assert len(found) == len(passages)
    for passage, windows in zip(passages, found, strict=True):
        rest: list[int] = []
        for window in windows:
            assert window.tokens <= TOKENS_MAX and not window.truncated
            own = window.ids[~np.array(window.encoding.special_tokens_mask, bool)].tolist()
            assert own[: len(asked)] == asked
            rest += own[len(asked) :]
        assert rest == _tokens(name, passage)
        assert all(window.tokens == TOKENS_MAX for window in windows[:-1])


def test_segments_tell_query_and_passage_apart_in_every_window(
    tokenizers: dict[str, PairTokenizer],
) -> None:
    (windows,) = tokenizers["bert-pairs"].windows("red blue", ["gold " * 30])
    assert len(windows) == 2
    for window in windows:  # [CLS] red blue [SEP] and the rest
        assert window.types.tolist() == [0] * 4 + [1] * (window.tokens - 4)


@pytest.mark.parametrize("name", SPECIAL)
def test_a_query_may_take_half_of_the_model_and_is_refused_or_cut_beyond(
    tokenizers: dict[str, PairTokenizer], name: str
) -> None:
    tokenizer = tokenizers[name]
    most = TOKENS_MAX // 2 - SPECIAL[name]
    assert tokenizer.query_tokens_max == most
    fits = " ".join(["red"] * most)
    assert tokenizer.fit_query(fits) == tokenizer.fit_query(fits, truncate=True) == fits
    with pytest.raises(TextTooLong) as caught:
        tokenizer.fit_query(f"{fits} blue")
    assert caught.value.field == "query"
    assert caught.value.metadata == {"tokens": str(most + 1), "tokens_max": str(most)}
    assert tokenizer.fit_query(f"{fits} blue", truncate=True) == fits


@settings(deadline=None)
@given(query=st.lists(WORDS, min_size=1, max_size=40).map(" ".join))
def test_a_cut_query_is_a_beginning_of_it_that_fits(
    tokenizers: dict[str, PairTokenizer], query: str
) -> None:
    tokenizer = tokenizers["bert-pairs"]
    fitted = tokenizer.fit_query(query, truncate=True)
    assert query.startswith(fitted)
    assert tokenizer.fit_query(fitted) == fitted
    whole = _tokens("bert-pairs", query)
    assert len(_tokens("bert-pairs", fitted)) == min(len(whole), tokenizer.query_tokens_max)


def test_texts_that_are_not_unicode_are_refused_with_their_place(
    tokenizers: dict[str, PairTokenizer],
) -> None:
    tokenizer = tokenizers["bert-pairs"]
    with pytest.raises(InvalidField, match=r"U\+D800") as caught:
        tokenizer.fit_query("red \ud800")
    assert caught.value.field == "query"
    with pytest.raises(InvalidField) as caught:
        tokenizer.windows(QUERY, ["gold", "\udfff"])
    assert caught.value.field == "passages[1]"


def test_an_empty_passage_has_one_window(tokenizers: dict[str, PairTokenizer]) -> None:
    ((window,),) = tokenizers["bert-pairs"].windows(QUERY, [""])
    assert window.tokens == len(_tokens("bert-pairs", QUERY)) + SPECIAL["bert-pairs"]


def test_a_model_too_small_for_two_texts_is_refused(tmp_path: Path) -> None:
    assert _pairs(tmp_path / "enough", "bert-pairs", 22).query_tokens_max == 8
    with pytest.raises(ModelUnavailable, match="reads 21 tokens"):
        _pairs(tmp_path / "few", "bert-pairs", 21)
