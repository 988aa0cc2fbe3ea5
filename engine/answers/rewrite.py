"""A question that leans on the conversation before it, as one that stands alone.

Rules, no model: a pronoun is replaced by what the last turns were about, "And in 1963?" and "What
about Lucerne?" take the last question with the new thing in it. A question that stands alone stays
as it is, to the letter: most do, and a wrong rewriting costs more than a missing one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from engine.answers.words import is_stop, terms

TURNS_MAX = 20
"""Turns that are looked at, the last ones."""

_PERSON = re.compile(r"\b(?:he|she|him|his|her|hers)\b", re.IGNORECASE)
_THING = re.compile(r"\b(?:it|its|they|them|their|theirs)\b", re.IGNORECASE)
_POINTED = re.compile(
    r"\b(?:this|that|these|those)(?=\s*(?:\?|$|\b(?:is|was|are|were|one|ones)\b))", re.I
)
_PRONOUNS = (_PERSON, _THING, _POINTED)
_POSSESSIVE = frozenset(("his", "its", "their"))
_ABOUT = re.compile(
    r"^\s*(?:and|so|but|ok|okay)?[,\s]*(?:what|how)\s+about\s+(?P<new>.+?)\s*\??\s*$", re.I
)
_AND = re.compile(r"^\s*(?:and|but|or)\s+(?P<new>.+?)\s*\??\s*$", re.I)
_ASKING = re.compile(
    r"^(?:in|on|at|from|to|by|for|with|of)?\s*"
    r"(?:who|whom|whose|what|when|where|which|why|how|is|are|was|"
    r"were|do|does|did|can|could|has|have|had|will|would|should)\b",
    re.IGNORECASE,
)
_SHORT = re.compile(
    r"^\s*(?:why|when|where|who|how|how many|how much|which one|since when)\s*\?*\s*$", re.I
)
_ASKED_FOR = re.compile(r"^\s*(?:who|whom|what|when|where|which|why|how)\b", re.IGNORECASE)
_KIND = re.compile(r"^\s*(?:what|which)\s+((?:[\w'\u2019-]+\s+)?[^\W\d_]+)\s", re.IGNORECASE)
_OF = re.compile(r"\s+(?:of|from)\s+(?:the\s+)?")
_TO = re.compile(r"\s+to\s+(?:the\s+)?")
_NAMES = re.compile(
    r"[A-Z][\w'\u2019-]*(?:\s+(?:of|the|de|van|von|and)\s+(?=[A-Z]))?"
    r"(?:\s+(?:[A-Z][\w'\u2019-]*|\d+))*"
)
_THE = re.compile(
    r"\b(?:the|a|an|this|that)\s+((?:[\w'\u2019-]+\s+){0,3}?[\w'\u2019-]+)(?=\s+(?:\w+ed|in|on|of|"
    r"from|to|by|for|at|is|was|are|were|has|have|do|does|did|end|begin|start|open|work)\b"
    r"|\s*[?.,;]|\s*$)"
)
_EXPLETIVE = re.compile(
    r"\b(?:is|was|does|did|has|had|will|would)\s+it\s+"
    r"(?:true|possible|the case|take|cost|rain|that)\b"
    r"|\bit\s+(?:is|was|takes|took)\s+(?:true|possible|to|that)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What was asked, and what was answered: empty where it was not."""

    question: str
    answer: str = ""


def needs_context(question: str) -> bool:
    """Whether a question cannot be understood alone."""
    if _ABOUT.match(question) or _SHORT.match(question):
        return True
    begun = _AND.match(question)
    if begun is not None and not _ASKING.match(begun["new"]):
        return True
    return _pronoun(question) is not None


def rewritten(question: str, turns: Sequence[Turn]) -> str:
    """`question` with what it leaves out taken from `turns`, the oldest first; itself where it
    stands alone or nothing fits."""
    turns = turns[-TURNS_MAX:]
    if not turns or not needs_context(question):
        return question
    last = _asked(turns)
    new = _ABOUT.match(question) or _AND.match(question)
    if new is not None and not _ASKING.match(new["new"]):
        return _with(last, new["new"])
    if _SHORT.match(question):
        asking = question.strip().rstrip("?").strip()
        return _ASKED_FOR.sub(asking, last, count=1) if _ASKED_FOR.match(last) else question
    question = re.sub(r"^\s*(?:and|but|so)\s+", "", question, flags=re.IGNORECASE)
    return _resolved(question, turns)


def _asked(turns: Sequence[Turn]) -> str:
    """The last question, with what it took from those before."""
    found = turns[0].question
    for before, turn in pairwise(turns):
        if needs_context(turn.question):
            found = rewritten(turn.question, [Turn(found, before.answer)])
        else:
            found = turn.question
    return found


def _pronoun(question: str) -> re.Match[str] | None:
    """The first pronoun that nothing in the question itself explains."""
    if _EXPLETIVE.search(question):
        return None
    found = [match for pattern in _PRONOUNS if (match := pattern.search(question))]
    first = min(found, key=lambda match: match.start(), default=None)
    if first is None:
        return None
    before = question[: first.start()]
    explained = names_of(before, opening=True) or _THE.search(before)
    return None if explained else first


def _resolved(question: str, turns: Sequence[Turn]) -> str:
    match = _pronoun(question)
    if match is None:
        return question
    last = _asked(turns)
    person = _PERSON.fullmatch(match.group()) is not None
    topic = _topic(last, turns[-1].answer, person=person)
    if not topic:
        return question
    word = match.group().casefold()
    owner = word in _POSSESSIVE or (word == "her" and _followed_by_noun(question, match.end()))
    instead = f"{topic}'s" if owner else topic
    return f"{question[: match.start()]}{instead}{question[match.end() :]}"


def _followed_by_noun(text: str, end: int) -> bool:
    following = re.match(r"\s+([^\W\d_]+)", text[end:])
    return following is not None and not is_stop(following[1].casefold())


def _topic(question: str, answer: str, *, person: bool) -> str:
    """What a conversation is about: who was answered, for "he"; what was asked about, for "it"."""
    asked, answered = names_of(question, opening=True), names_of(answer, opening=False)
    fresh = [name for name in answered if name not in asked]
    if person and re.match(r"\s*(?:who|whose|whom|which)\b", question, re.IGNORECASE) and fresh:
        return max(fresh[:3], key=lambda name: len(name.split()))
    if person and asked:
        return asked[-1]
    kind = _KIND.match(question)
    if kind is not None and not any(is_stop(word.casefold()) for word in kind[1].split()):
        return f"the {kind[1].split()[0]}"
    phrase = _THE.search(question)
    if phrase is not None and not (asked and question.find(asked[0]) < phrase.start()):
        return _whole(question, phrase)
    if asked or answered:
        return (asked or answered)[0]
    return " ".join(dict.fromkeys(terms(question)))


def _whole(text: str, phrase: re.Match[str]) -> str:
    """A phrase with the names that say which one: "the line" and "from Zurich to Baden"."""
    end = phrase.end()
    for link in (_OF, _TO):
        joined = link.match(text, end)
        name = _NAMES.match(text, joined.end()) if joined else None
        if name is None:
            break
        end = name.end()
    return text[phrase.start() : end]


def names_of(text: str, *, opening: bool = False) -> list[str]:
    """Runs of words with capital letters. The first word of a question is no name (`opening`)."""
    found = []
    for match in _NAMES.finditer(text):
        words = re.sub(r"['\u2019]s?$", "", match.group()).split()
        at_start = opening and not text[: match.start()].strip()
        while words and (is_stop(words[0].casefold()) or at_start):
            words, at_start = words[1:], False
        if words:
            found.append(" ".join(words))
    return found


def _with(last: str, new: str) -> str:
    """The last question with `new` in the place of what is like it, else beside it."""
    words = new.split()
    core = words[1:] if len(words) > 1 and is_stop(words[0].casefold()) else words
    fresh = " ".join(core)
    if fresh.isdigit():
        numbers = list(re.finditer(r"\b\d+\b", last))
        if numbers:
            return f"{last[: numbers[-1].start()]}{fresh}{last[numbers[-1].end() :]}"
    names = names_of(last, opening=True)
    if names and fresh[:1].isupper():
        return last.replace(names[-1], fresh, 1)
    phrase = _THE.search(last)
    if (
        phrase is not None
        and not words[0][:1].isupper()
        and words[0].casefold() in ("the", "a", "an")
    ):
        return f"{last[: phrase.start()]}{new}{last[phrase.end() :]}"
    return f"{last.rstrip().rstrip('?')} {new}?"
