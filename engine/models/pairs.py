"""Query and passage as one sequence of tokens, for a cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.errors import ModelUnavailable, TextTooLong
from engine.models.model_dir import ModelDir
from engine.models.tokenize import Tokenized, check_unicode, in_groups, open_tokenizer

PASSAGE_TOKENS_MIN = 8
"""A model must leave this many for the passage beside a query of half its length."""


class PairTokenizer:
    """The tokenizer of a cross-encoder's directory. Thread-safe.

    A passage that is too long comes in windows, each together with the whole query. `segments` is
    in how many parts the model is told query and passage: 2, or 1 for RoBERTa.
    """

    def __init__(self, model: ModelDir) -> None:
        self.tokens_max = model.tokens_max
        tokenizer = open_tokenizer(model)
        self._special_tokens = tokenizer.num_special_tokens_to_add(True)
        if self.tokens_max // 2 < self._special_tokens + PASSAGE_TOKENS_MIN:
            raise ModelUnavailable(
                f"the model of {model.path} reads {self.tokens_max} tokens, too few for a query "
                "and a passage",
                metadata={"tokens_max": self.tokens_max, "special": self._special_tokens},
            )
        # Not read from each window: later ones say segment 1 where the template says 0.
        self.segments = len(set(tokenizer.encode("a", "a").type_ids))
        self._single = open_tokenizer(model)
        self._single.no_truncation()
        tokenizer.enable_truncation(self.tokens_max, strategy="only_second")
        self._pairs = tokenizer

    @property
    def query_tokens_max(self) -> int:
        """What a query may take, so that half of the model is left for the passage."""
        return self.tokens_max // 2 - self._special_tokens

    def fit_query(self, query: str, *, truncate: bool = False) -> str:
        """The query, or as much of it as fits.

        Raises TextTooLong for one of more than `query_tokens_max` tokens unless `truncate`, and
        InvalidField for one that is not Unicode.
        """
        check_unicode(query, 0, "query")
        (encoding,) = self._single.encode_batch([query], add_special_tokens=False)
        tokens = len(encoding.ids)
        if tokens <= self.query_tokens_max:
            return query
        if not truncate:
            raise TextTooLong(
                f"the query has {tokens} tokens and may have {self.query_tokens_max}; shorten it, "
                "or ask for truncation",
                field="query",
                metadata={"tokens": tokens, "tokens_max": self.query_tokens_max},
            )
        return query[: encoding.offsets[self.query_tokens_max - 1][1]]

    def windows(self, query: str, passages: Sequence[str]) -> list[list[Tokenized]]:
        """For each passage its windows, each with `query`, which `fit_query` returned.

        Raises InvalidField for a passage that is not Unicode.
        """
        for index, passage in enumerate(passages):
            check_unicode(passage, index, f"passages[{index}]")
        found = []
        for group in in_groups(passages):
            encodings = self._pairs.encode_batch([(query, passage) for passage in group])
            for passage, encoding in zip(group, encodings, strict=True):
                windows = (encoding, *encoding.overflowing)
                found.append(
                    [Tokenized(passage, np.array(w.ids, np.int64), len(w.ids), w) for w in windows]
                )
        return found
