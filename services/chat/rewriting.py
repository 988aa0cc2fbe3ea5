"""What a language model is asked where a question leans on the conversation before it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.answers.rewrite import Turn

EXTRACTIVE_MODEL = "generationModels/extractive"
REWRITTEN_TOKENS_MAX = 200
TURNS_MAX = 6
"""The last ones; what a question leans on is seldom further back."""

TURN_CHARACTERS_MAX = 600
PROMPT_CHARACTERS_MAX = 10_000
"""What the generation service takes as a question."""


def rewriting(question: str, turns: Sequence[Turn]) -> str:
    """The prompt, at most `PROMPT_CHARACTERS_MAX` characters: older turns are left out first."""
    begin = (
        "Rewrite the last question so that it can be understood without the conversation. Keep its "
        "meaning and its language. Write only the rewritten question, in one line.\n\n"
    )
    end = f"Last question: {question}\nRewritten question:"
    said: list[str] = []
    left = PROMPT_CHARACTERS_MAX - len(begin) - len(end)
    for turn in reversed(turns[-TURNS_MAX:]):
        text = f"Question: {_cut(turn.question)}\nAnswer: {_cut(turn.answer)}\n\n"
        left -= len(text)
        if left < 0:
            break
        said.append(text)
    return f"{begin}{''.join(reversed(said))}{end}"[:PROMPT_CHARACTERS_MAX]


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TURN_CHARACTERS_MAX else f"{line[: TURN_CHARACTERS_MAX - 1]}…"
