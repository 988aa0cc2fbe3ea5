"""How many tokens a text has for a model whose tokenizer is not here: bounds, and a likely value.

The upper bound holds for every tokenizer that works on bytes, as those of today's language models
do: each token covers a byte at least. English has some four characters a token, Chinese about one,
and long words that are tokens of their own rarely pass twelve bytes on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BYTES_PER_TOKEN_MOST = 12
BYTES_PER_TOKEN_LIKELY = 4

MESSAGE_TOKENS_MOST = 16
"""What a role, and where a message begins and ends, come to."""

TOOLS_TOKENS_MOST = 1_024
"""What endpoints say to a model about tools in general; Anthropic names up to 700."""


@dataclass(frozen=True, slots=True)
class TokenBounds:
    """At least `low` tokens and at most `high`."""

    low: int
    high: int


def input_bounds(texts: Sequence[str], tools: bool) -> TokenBounds:
    """Of a prompt: a text for each message, name, description and schema in it."""
    sizes = [len(text.encode(errors="replace")) for text in texts]
    low = sum(-(-size // BYTES_PER_TOKEN_MOST) for size in sizes)
    high = sum(sizes) + MESSAGE_TOKENS_MOST * (len(texts) + 1)
    return TokenBounds(low, high + (TOOLS_TOKENS_MOST if tools else 0))


def likely_tokens(size_bytes: int) -> int:
    """Of a text of so many bytes of UTF-8."""
    return -(-size_bytes // BYTES_PER_TOKEN_LIKELY)


def least_tokens(size_bytes: int, pieces: int) -> int:
    """What a streamed text has at least. Mostly a piece is a token or several; an endpoint that
    sends letters one by one says nothing by their number."""
    return max(min(pieces, size_bytes // 3), -(-size_bytes // BYTES_PER_TOKEN_MOST))
