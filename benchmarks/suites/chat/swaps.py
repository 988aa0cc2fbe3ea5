"""Sentences with one thing in them changed: a number, a date, a name or a negation.

Made by plain patterns that share nothing with what is measured. The other number, date or name
comes from the same paragraph where there is one, because that is the mistake that is hard to see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

_NUMBER = re.compile(
    r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w,])|(?<![\w.,])\d+(?:\.\d+)?(?![\w,]|\.\d)"
)
_YEAR = re.compile(r"\b(?:1[0-9]|20)\d{2}\b")
_MONTH_NAMES = "January|February|March|April|June|July|August|September|October|November|December"
_MONTH = re.compile(rf"\b(?:{_MONTH_NAMES})\b")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})*")
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|has|had|can|could|would|should|will|must|may)\b(?! not)"
)
_NOT = re.compile(
    r"\b(is|are|was|were|has|had|can|could|would|should|will|must|may|did|does|do) not\b"
)

KINDS = ("number", "date", "name", "negation")


@dataclass(frozen=True, slots=True)
class Changed:
    """A sentence that says something else than the one it was made from."""

    kind: str
    text: str


def changed(sentence: str, paragraph: str, kind: str, random: Random) -> Changed | None:
    """`sentence` with one thing of `kind` changed; None where it has none of it."""
    text = _WAYS[kind](sentence, paragraph, random)
    return None if text is None or text == sentence else Changed(kind, text)


def reworded(sentence: str, random: Random) -> str:
    """The same, as a model might say it: something in parentheses left out, the last phrase of
    time or place moved to the front, or an opening before it."""
    ways: list[Callable[[str], str | None]] = [_without_brackets, _moved, _opened]
    random.shuffle(ways)
    for way in ways:
        found = way(sentence)
        if found is not None and found != sentence:
            return found
    return sentence


def _number(sentence: str, paragraph: str, random: Random) -> str | None:
    here = [m for m in _NUMBER.finditer(sentence) if not _YEAR.fullmatch(m.group())]
    if not here:
        return None
    match = random.choice(here)
    others = [
        t for t in _NUMBER.findall(paragraph) if t != match.group() and not _YEAR.fullmatch(t)
    ]
    new = random.choice(others) if others else str(int(re.sub(r"\D", "", match.group())[:6]) + 3)
    return _put(sentence, match, new)


def _date(sentence: str, paragraph: str, random: Random) -> str | None:
    here = [(m, _YEAR) for m in _YEAR.finditer(sentence)]
    here += [(m, _MONTH) for m in _MONTH.finditer(sentence)]
    if not here:
        return None
    match, pattern = random.choice(here)
    others = [text for text in pattern.findall(paragraph) if text != match.group()]
    if others:
        return _put(sentence, match, random.choice(others))
    if pattern is _YEAR:
        return _put(sentence, match, str(int(match.group()) + random.choice((-11, -2, 1, 7))))
    rest = [name for name in _MONTH_NAMES.split("|") if name != match.group()]
    return _put(sentence, match, random.choice(rest))


def _name(sentence: str, paragraph: str, random: Random) -> str | None:
    here = [m for m in _NAME.finditer(sentence) if not re.search(_MONTH, m.group())]
    if not here:
        return None
    match = random.choice(here)
    mine = set(match.group().split())
    others = [
        text
        for text in _NAME.findall(paragraph)
        if not mine & set(text.split()) and not re.search(_MONTH, text)
    ]
    return _put(sentence, match, random.choice(others or ["Halvorsen", "Quillon", "Port Meridian"]))


def _negation(sentence: str, paragraph: str, random: Random) -> str | None:
    denied = list(_NOT.finditer(sentence))
    if denied:
        match = random.choice(denied)
        return _put(sentence, match, match.group(1))
    said = list(_AUXILIARY.finditer(sentence))
    return _put(sentence, said[0], f"{said[0].group()} not") if said else None


_WAYS: dict[str, Callable[[str, str, Random], str | None]] = {
    "number": _number,
    "date": _date,
    "name": _name,
    "negation": _negation,
}


def _put(sentence: str, match: re.Match[str], new: str) -> str:
    return sentence[: match.start()] + new + sentence[match.end() :]


def _without_brackets(sentence: str) -> str | None:
    found = re.sub(r" \([^()]*\)", "", sentence)
    return found if len(found) > len(sentence) / 2 else None


def _moved(sentence: str) -> str | None:
    match = re.fullmatch(r"([A-Z].{20,}) (in|on|during|after|since) ([^,;()]{4,40})\.", sentence)
    if match is None:
        return None
    head, word, phrase = match.groups()
    second = head.split()[0]
    first = head if second not in _LOWERED else head[0].lower() + head[1:]
    return f"{word.title()} {phrase}, {first}."


_LOWERED: Sequence[str] = (
    "The",
    "A",
    "An",
    "It",
    "He",
    "She",
    "They",
    "This",
    "These",
    "In",
    "There",
)


def _opened(sentence: str) -> str | None:
    first = sentence.split()[0]
    if first not in _LOWERED:
        return None
    return f"As the passage says, {sentence[0].lower()}{sentence[1:]}"
