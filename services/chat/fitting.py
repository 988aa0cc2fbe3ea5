"""The context of an answer: as many of the best passages as the budget of tokens takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.answers.context import assemble
from engine.models.sentences import split
from services.chat.siblings import Found, Siblings

CONTEXT_PASSAGES_MAX = 100
"""What the generation service takes."""

COUNTED_TEXTS_MAX = 4_096
"""What the embedding service counts in one request."""


async def fitting(found: Sequence[Found], tokens_max: int, siblings: Siblings) -> list[Found]:
    """The best passages whose tokens together are at most `tokens_max`."""
    likely = _likely(found, tokens_max)
    counts = await siblings.count_tokens([h.passage.text for h in likely]) if likely else []
    counted = {
        hit.passage.key: replace(hit, passage=replace(hit.passage, tokens=tokens))
        for hit, tokens in zip(likely, counts, strict=True)
    }
    context = assemble(
        [hit.passage for hit in counted.values()], tokens_max, passages_max=CONTEXT_PASSAGES_MAX
    )
    if not context.passages and found:
        return await _beginning(found[0], tokens_max, siblings)
    return [counted[passage.key] for passage in context.passages]


def _likely(found: Sequence[Found], tokens_max: int) -> list[Found]:
    """Those that may have a place. A word has at least one token, so passages with as many words
    as the budget has tokens fill it; counting more would be for nothing (0.7 ms a passage)."""
    likely, words = [], 0
    for hit in found:
        length = len(hit.passage.text.split())
        if length > tokens_max:
            continue
        likely.append(hit)
        words += length
        if words > tokens_max or len(likely) == COUNTED_TEXTS_MAX:
            break
    return likely


async def _beginning(hit: Found, tokens_max: int, siblings: Siblings) -> list[Found]:
    """The first sentences of a passage that is too long as a whole; none if not even one fits."""
    spans = split(hit.passage.text)[:COUNTED_TEXTS_MAX]
    begin = spans[0].start if spans else 0
    counts = await siblings.count_tokens([hit.passage.text[s.start : s.end] for s in spans])
    tokens, end = 0, begin
    for span, count in zip(spans, counts, strict=True):
        if tokens + count > tokens_max:
            break
        tokens, end = tokens + count, span.end
    text = hit.passage.text[:end]
    if end == begin:
        return []
    return [replace(hit, passage=replace(hit.passage, text=text, tokens=tokens))]
