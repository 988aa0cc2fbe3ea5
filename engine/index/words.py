"""The words of a text, as search by words sees them.

A word is a run of letters, their marks and digits, in lower case, stemmed in the collection's
language, without accents. Beside the rules of the language there are three that hold in all:

- What is written as one name (`ERR_42`, `1.2.3`, `C++`, `C#`) is its parts and also one word, so
  that who searches for the name finds it before texts with only its parts.
- Runs of Chinese, Japanese and Korean letters, which have no spaces, are their overlapping pairs.
- Texts that look alike are alike (Unicode's NFKC): ligatures and full-width letters of PDFs,
  accents written as marks of their own, hyphens that only say where a line may break.

Postings hold these words, so a change to any of this is a new `RECIPE`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

import tantivy

from engine.errors import InvalidField

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
"""Distinct words of a query that are looked up: the first ones."""

RECIPE = 1
"""Which rules made the words of a sealed table. Words of different recipes do not match."""

_WORD_CHARACTERS_MAX = 40  # longer words are no words: tantivy's own analyzers say the same
_UTF8_BYTES_MAX = 4  # of one character

# `\w` of Python is no match for a mark, and tantivy's simple tokenizer cuts at those that are not
# alphabetic: a Tamil word would be cut at each pulli.
_ANY_SCRIPT = r"[\p{Alphabetic}\p{M}\p{N}]+"

_PAIRED = re.compile(
    "[\u1100-\u11ff\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003134f]+"
)
_NAMES = (
    ("_", re.compile(r"(?<![^\W_])[^\W_]++(?:_[^\W_]++)+")),
    ("++", re.compile(r"(?<![^\W_])[^\W\d_][^\W_]*+\+\+(?![^\W_])")),
    ("#", re.compile(r"(?<![^\W_])[^\W\d_][^\W_]*+#(?![^\W_])")),
    (".", re.compile(r"(?<![0-9])[0-9]++(?:\.[0-9]++)+")),
)
"""What is one name, each with what is in every text that has one: few texts need the pattern."""


class Analyzer:
    """Texts to words in one language. Safe for any number of threads."""

    __slots__ = ("_any_script", "_ascii")

    def __init__(self, language: str) -> None:
        """`language` is a key of STEMMERS, or empty: no stemming. Raises InvalidField otherwise."""
        if language and language not in STEMMERS:
            known = ", ".join(sorted(STEMMERS))
            raise InvalidField(
                f"no stemmer for language {language!r}; give one of {known}, or none",
                field="language",
                metadata={"language": language, "languages": known},
            )
        self._ascii = _analyzer(tantivy.Tokenizer.simple(), language, _WORD_CHARACTERS_MAX)
        self._any_script = _analyzer(
            tantivy.Tokenizer.regex(_ANY_SCRIPT), language, _WORD_CHARACTERS_MAX * _UTF8_BYTES_MAX
        )

    def words(self, text: str) -> list[str]:
        """Every word of a text, repeated as often as it occurs; none for a text without letters.

        Any string is a text: nothing in it is syntax, and lone surrogates are no letters. About
        80 µs a kilobyte.
        """
        analyzer = self._ascii
        if not text.isascii():
            # Lone surrogates have no UTF-8, which is all that tantivy reads.
            text = text.encode("utf-8", "replace").decode("utf-8")
            # A soft hyphen is seen only where a line ends. A capital I with a dot has two
            # characters as its lower case, of which folding would leave the second.
            text = text.replace("\u00ad", "").replace("\u0130", "i")
            text = _PAIRED.sub(_pairs, unicodedata.normalize("NFKC", text))
            analyzer = self._any_script
        words: list[str] = analyzer.analyze(text)
        words.extend(_names(text))
        return words

    def query(self, text: str) -> dict[str, int]:
        """The distinct words of a query with how often each occurs, at most QUERY_WORDS_MAX."""
        return weighted(self.words(text))


def weighted(words: Iterable[str]) -> dict[str, int]:
    """Distinct words, in order of first appearance, with how often each occurs.

    Past QUERY_WORDS_MAX distinct words the later ones are left out.
    """
    times: dict[str, int] = {}
    for word in words:
        known = times.get(word, 0)
        if known or len(times) < QUERY_WORDS_MAX:
            times[word] = known + 1
    return times


def _analyzer(
    tokenizer: tantivy.Tokenizer, language: str, word_bytes_max: int
) -> tantivy.TextAnalyzer:
    steps = (
        tantivy.TextAnalyzerBuilder(tokenizer)
        .filter(tantivy.Filter.remove_long(word_bytes_max))
        .filter(tantivy.Filter.lowercase())
    )
    if language:
        steps = steps.filter(tantivy.Filter.stemmer(STEMMERS[language]))
    # Accents go last: stemmers know the endings of their language as it is spelled.
    return steps.filter(tantivy.Filter.ascii_fold()).build()


def _names(text: str) -> Iterator[str]:
    for sign, pattern in _NAMES:
        if sign in text:
            for name in pattern.findall(text):
                if len(name) <= _WORD_CHARACTERS_MAX:
                    yield name.lower()


def _pairs(run: re.Match[str]) -> str:
    letters = run[0]
    if len(letters) == 1:
        return f" {letters} "
    return " " + " ".join(letters[at : at + 2] for at in range(len(letters) - 1)) + " "
