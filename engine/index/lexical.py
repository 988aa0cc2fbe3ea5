"""Words: BM25 over one text field in a tantivy index in memory.

One writer calls `apply`, which makes deletions and additions visible together, in one commit, and
returns a `LexicalView`: a tantivy searcher, which goes on seeing exactly that commit whatever is
written later. The owner keeps it beside the vectors of the same commit, so the words and the
vectors of one view always speak of the same rows.

A query is the set of its analyzed words, any of which may match, so that no text is a syntax
error. BM25's statistics count deleted rows until tantivy merges their segment away: scores may
differ a little between two indexes that hold the same rows after different histories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import tantivy
from numpy.typing import NDArray

from engine.errors import InvalidField
from engine.index.exact import Positions

STEMMERS = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
"""ISO 639-1 code to tantivy's stemmer. The empty language is words as they stand."""

QUERY_WORDS_MAX = 256
"""Distinct words of a query that are looked up: the first ones. A clause costs about 10 µs."""

ROW_SET_MAX = 1_000
"""Most rows that a filter is handed to tantivy as a set (1.6 ms); else hits are filtered."""

_WORD_BYTES_MAX = 40  # longer words are no words: tantivy's own default analyzers say the same
_WRITER_HEAP_BYTES = 15_000_000  # tantivy's least
_ROW, _TEXT, _ANALYZER = "row", "text", "ragmesh"


@dataclass(frozen=True, slots=True)
class LexicalView:
    """The words of one commit. Safe for any number of threads."""

    schema: tantivy.Schema
    analyzer: tantivy.TextAnalyzer
    searcher: tantivy.Searcher

    @property
    def rows(self) -> int:
        """How many rows have text."""
        return int(self.searcher.num_docs)

    def query(self, text: str) -> tantivy.Query | None:
        """Rows with any word of the text; None if it has no words. Never raises on a string."""
        words = Counter(self.analyzer.analyze(_clean(text)))
        clauses = []
        for word, times in list(words.items())[:QUERY_WORDS_MAX]:
            term = tantivy.Query.term_query(self.schema, _TEXT, word, "freq")
            clause = term if times == 1 else tantivy.Query.boost_query(term, float(times))
            clauses.append((tantivy.Occur.Should, clause))
        return tantivy.Query.boolean_query(clauses) if clauses else None

    def among(self, query: tantivy.Query, rows: Iterable[int]) -> tantivy.Query:
        """The same query, with the same scores, for these rows only."""
        wanted = tantivy.Query.term_set_query(self.schema, _ROW, list(rows))
        must = tantivy.Occur.Must
        return tantivy.Query.boolean_query(
            [(must, query), (must, tantivy.Query.const_score_query(wanted, 0.0))]
        )

    def top(self, query: tantivy.Query, count: int) -> tuple[Positions, NDArray[np.float32]]:
        """Row numbers and BM25 scores of the best `count` (at least 1), best first."""
        hits = self.searcher.search(query, max(1, count), count=False).hits
        rows = self.searcher.fast_field_values(_ROW, [address for _, address in hits])
        return np.array(rows, np.int64), np.array([score for score, _ in hits], np.float32)


class LexicalIndex:
    """The writer's side."""

    def __init__(self, language: str) -> None:
        """Raises InvalidField for a language without a stemmer."""
        if language and language not in STEMMERS:
            known = ", ".join(sorted(STEMMERS))
            raise InvalidField(
                f"no stemmer for language {language!r}; give one of {known}, or none",
                field="language",
                metadata={"language": language, "languages": known},
            )
        # The same steps as tantivy's `en_stem`, for any language.
        analyzer = (
            tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
            .filter(tantivy.Filter.remove_long(_WORD_BYTES_MAX))
            .filter(tantivy.Filter.lowercase())
        )
        if language:
            analyzer = analyzer.filter(tantivy.Filter.stemmer(STEMMERS[language]))
        self._analyzer = analyzer.build()
        self._schema = (
            tantivy.SchemaBuilder()
            .add_unsigned_field(_ROW, indexed=True, fast=True)
            .add_text_field(_TEXT, tokenizer_name=_ANALYZER, index_option="freq")
            .build()
        )
        self._index = tantivy.Index(self._schema)
        self._index.register_tokenizer(_ANALYZER, self._analyzer)
        self._index.config_reader("manual", 0)
        self._writer: tantivy.IndexWriter | None = None
        self.view = self._searcher_view()

    def add(self, rows: Iterable[tuple[int, str]], deletes: Iterable[int] = ()) -> None:
        """Stage texts by row number, and deletions; nothing is visible before `commit`."""
        if self._writer is None:
            # Lazily: it takes six threads and 8 MB, which a collection without text never needs.
            self._writer = self._index.writer(_WRITER_HEAP_BYTES, 1)
        # By query: deleting by term looks for a signed number, which no unsigned field ever has.
        gone = list(deletes)
        if gone:
            wanted = tantivy.Query.term_set_query(self._schema, _ROW, gone)
            self._writer.delete_documents_by_query(wanted)
        for row, text in rows:
            document = tantivy.Document()
            document.add_unsigned(_ROW, row)
            document.add_text(_TEXT, _clean(text))
            self._writer.add_document(document)

    def commit(self) -> LexicalView:
        """Make what is staged visible, in a new view. About 4 ms, without the GIL."""
        if self._writer is not None:
            self._writer.commit()
            self._index.reload()
            self.view = self._searcher_view()
        return self.view

    def rollback(self) -> None:
        """Forget what is staged."""
        if self._writer is not None:
            self._writer.rollback()

    def _searcher_view(self) -> LexicalView:
        return LexicalView(self._schema, self._analyzer, self._index.searcher())


def _clean(text: str) -> str:
    """Lone surrogates have no UTF-8, which is all that tantivy reads."""
    return text.encode("utf-8", "replace").decode("utf-8")
