"""A question of several parts as questions that can be asked one by one.

"When was the line opened and who built it?" is cut before the "who", and what the "it" stands for
is put in its place. Only what begins a question of its own is cut: "Who are Ada and Grace?" is one.
"""

from __future__ import annotations

import re

from engine.answers.rewrite import Turn, needs_context, rewritten

PARTS_MAX = 4
_WORDS_MIN = 3

_ASKING = r"(?:who|whom|whose|what|when|where|which|why|how)"
_CUT = re.compile(
    rf"(?<=\?)\s+(?=\S)"
    rf"|[,;]?\s+(?:and|or)(?:\s+also)?\s+(?={_ASKING}\s+\w+\s+\w+)"
    rf"|;\s+(?={_ASKING}\b)",
    re.IGNORECASE,
)
_BEGINS = re.compile(rf"(?:(?:in|on|at|from|to|by|for|with|of)\s+)?{_ASKING}\b", re.IGNORECASE)


def parts(question: str) -> tuple[str, ...]:
    """One to `PARTS_MAX` questions; what is beyond stays with the last one."""
    pieces = [piece.strip() for piece in _CUT.split(question.strip(), PARTS_MAX - 1)]
    pieces = [piece for piece in pieces if piece.strip(" ?.,;")]
    if len(pieces) < 2 or not _BEGINS.match(pieces[0]) or len(pieces[0].split()) < _WORDS_MIN:
        return (question,)
    found: list[str] = []
    for piece in pieces:
        whole = piece if piece.endswith("?") else f"{piece}?"
        if found and needs_context(whole):
            whole = rewritten(whole, [Turn(found[0])])
        found.append(whole[0].upper() + whole[1:])
    return tuple(found)
