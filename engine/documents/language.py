"""The language a text is written in, by the letters and words it uses."""

from __future__ import annotations

from functools import cache
from typing import Any

from engine.documents.parsed import Parsed, primary_language

SAMPLE_CHARS = 4_000
"""Read of a text; more changes no answer."""

LETTERS_MIN = 40
"""Shorter texts are of no language that could be told: names and numbers are of all."""

PROBABILITY_MIN = 0.8


def language_of(parsed: Parsed) -> str:
    """The ISO 639-1 code of the language most of the text is in; empty where none is sure."""
    pieces: list[str] = []
    chars = 0
    for block in parsed.blocks:
        if block.role == "body" and block.kind != "code" and chars < SAMPLE_CHARS:
            pieces.append(parsed.text[block.span.start : block.span.end][:SAMPLE_CHARS])
            chars += len(pieces[-1])
    sample = " ".join(pieces)[:SAMPLE_CHARS]
    if sum(map(str.isalpha, sample)) < LETTERS_MIN:
        return ""
    identifier = _identifier()
    if identifier is None:
        return ""
    code, probability = identifier.classify(sample)
    return primary_language(str(code)) if float(probability) >= PROBABILITY_MIN else ""


@cache
def _identifier() -> Any:
    """Loaded once a process: 0.6 s and 120 MB at the most, 60 MB of which stay. None where no
    file may be written: then languages are those that files name."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    try:
        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    except OSError:
        return None


def load() -> None:
    """Load what detects languages. It unpacks into a file, so a process that may write none loads
    it before."""
    _identifier()
