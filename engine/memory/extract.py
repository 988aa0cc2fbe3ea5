"""What a turn says that is worth keeping, by rules: no model runs.

A sentence is looked at for what its speaker says about himself or herself: a fact in a slot that
has one value at a time (name, home, work, a favorite), a preference, a task, or something that
happens on a day that the sentence names. Each result quotes its sentence exactly. At most
`EXTRACTED_MAX` of them come from the first `CHARACTERS_MAX` characters of a turn; patterns are
bounded, so that the time taken grows with the turn alone. Languages other than English give days in
ISO form at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.memory.dates import Named, named_days
from engine.memory.kinds import IMPORTANCE, Kind
from engine.models.sentences import split
from engine.types import Span

CHARACTERS_MAX = 20_000
"""What of a turn is looked at."""

EXTRACTED_MAX = 16
"""Memories made of one turn."""

SLOT_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody said, and when. `speaker` may be empty."""

    text: str
    said_at: datetime
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A memory in the making. `span` is where it stands in the turn.

    `slot` names what can have one value at a time, with its `value`; both are empty where there is
    no such thing. `happens_at` is the day that the sentence names; `valid_from` is when it begins
    to hold.
    """

    kind: Kind
    text: str
    span: Span
    importance: float
    valid_from: datetime
    slot: str = ""
    value: str = ""
    happens_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    """A pattern with the group `value`, and the slot it fills; `{thing}` is a group of it."""

    pattern: re.Pattern[str]
    kind: Kind
    slot: str
    value: str = ""


def _rule(pattern: str, kind: Kind, slot: str = "", value: str = "") -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), kind, slot, value)


_I = r"\bI(?:\s(?:really|just|also|still|now|always|absolutely|only|recently))?\s"
_I_AM = r"\bI(?:\sam|['\u2019]m)\s(?:(?:really|just|also|still|now|currently)\s)?"
_VALUE = r"(?P<value>[^.,;:!?\n]{2,80}?)"
_END = r"(?=\s(?:and|but|because|so|since|when|while|now|these\sdays)\b|[.,;:!?\n]|$)"
_RULES: Sequence[_Rule] = (
    _rule(rf"\bmy\sname(?:\sis|['\u2019]s)\s{_VALUE}{_END}", Kind.FACT, "name"),
    _rule(rf"{_I}(?:live|reside)\sin\s{_VALUE}{_END}", Kind.FACT, "home"),
    _rule(rf"{_I_AM}living\sin\s{_VALUE}{_END}", Kind.FACT, "home"),
    _rule(
        rf"{_I}(?:have\s)?moved\s(?:back\s)?(?:from\s[\w\s]{{2,30}}?\s)?to\s{_VALUE}{_END}",
        Kind.FACT,
        "home",
    ),
    _rule(rf"{_I}(?:come|am|hail)\sfrom\s{_VALUE}{_END}", Kind.FACT, "origin"),
    _rule(rf"{_I}(?:was\sborn\sin)\s{_VALUE}{_END}", Kind.FACT, "birthplace"),
    _rule(rf"{_I}work\s(?:for|at)\s{_VALUE}{_END}", Kind.FACT, "employer"),
    _rule(rf"{_I_AM}working\s(?:for|at)\s{_VALUE}{_END}", Kind.FACT, "employer"),
    _rule(rf"{_I}(?:joined|started\s(?:working\s)?at)\s{_VALUE}{_END}", Kind.FACT, "employer"),
    _rule(rf"{_I}work\sas\s(?:an?\s)?{_VALUE}{_END}", Kind.FACT, "occupation"),
    _rule(rf"{_I}study\s{_VALUE}{_END}", Kind.FACT, "studies"),
    _rule(
        rf"\bmy\sfavou?rite\s(?P<thing>[\w\s]{{2,40}}?)(?:\sis|\sare|['\u2019]s)\s{_VALUE}{_END}",
        Kind.PREFERENCE,
        "favorite {thing}",
    ),
    _rule(
        rf"\bmy\s(?P<thing>birthday|phone(?:\snumber)?|address|e-?mail(?:\saddress)?|job|age|"
        rf"wife|husband|partner|boss|doctor|dog|cat|car|goal|title)(?:\sis|['\u2019]s)\s"
        rf"{_VALUE}{_END}",
        Kind.FACT,
        "{thing}",
    ),
    _rule(rf"{_I_AM}(?:allergic\sto)\s{_VALUE}{_END}", Kind.FACT, "allergic to {value}", "yes"),
    _rule(
        rf"{_I_AM}(?:not|no\slonger)\sallergic\sto\s{_VALUE}{_END}",
        Kind.FACT,
        "allergic to {value}",
        "no",
    ),
    _rule(rf"{_I_AM}(?:an?\s)(?P<value>vegan|vegetarian)\b", Kind.FACT, "diet"),
    _rule(
        rf"{_I}(?:do\snot|don['\u2019]t|no\slonger|can['\u2019]t)\s(?:really\s)?"
        rf"(?:like|love|enjoy|stand)\s{_VALUE}{_END}",
        Kind.PREFERENCE,
        "taste for {value}",
        "no",
    ),
    _rule(
        rf"{_I}(?:hate|dislike|detest)\s{_VALUE}{_END}", Kind.PREFERENCE, "taste for {value}", "no"
    ),
    _rule(
        rf"{_I}(?:like|love|enjoy|adore)\s{_VALUE}{_END}",
        Kind.PREFERENCE,
        "taste for {value}",
        "yes",
    ),
    _rule(rf"{_I}prefer\s{_VALUE}{_END}", Kind.PREFERENCE),
    _rule(rf"\b(?:remind\sme|don['\u2019]t\slet\sme\sforget)\sto\s{_VALUE}{_END}", Kind.TASK),
    _rule(rf"{_I}(?:need|have|must|ought)\s(?:to\s)?{_VALUE}\sby\b", Kind.TASK),
    _rule(rf"{_I}(?:need|ought|mustn['\u2019]t\sforget)\sto\s{_VALUE}{_END}", Kind.TASK),
    _rule(rf"\bto-?do:\s{_VALUE}{_END}", Kind.TASK),
)
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_ARTICLES = frozenset(("a", "an", "the"))
_QUESTION = re.compile(r"\?[)\]}\"'\u201d\u2019]*$")


def extract(turn: Turn) -> list[Extracted]:
    """The memories of a turn, in its order, one for each sentence and slot."""
    found: list[Extracted] = []
    for sentence in split(turn.text[:CHARACTERS_MAX]):
        for one in _of_sentence(turn, sentence):
            found.append(one)
            if len(found) == EXTRACTED_MAX:
                return found
    return found


def _of_sentence(turn: Turn, sentence: Span) -> Iterator[Extracted]:
    text = turn.text[sentence.start : sentence.end]
    if _QUESTION.search(text):
        return  # what is asked is not said
    days = named_days(text, turn.said_at)
    slots: set[str] = set()
    for rule in _RULES:
        match = rule.pattern.search(text)
        if match is None or (made := _made(turn, sentence, rule, match, days)) is None:
            continue
        # The first rule that reads a slot, or a task, is the most certain one.
        key = made.slot or made.kind
        if key not in slots:
            slots.add(key)
            yield made
    if not slots and days:
        yield Extracted(
            Kind.EVENT,
            text,
            sentence,
            IMPORTANCE[Kind.EVENT],
            turn.said_at,
            happens_at=days[0].day,
        )


def _made(
    turn: Turn, sentence: Span, rule: _Rule, match: re.Match[str], days: Sequence[Named]
) -> Extracted | None:
    said = normal(match["value"])
    if not said:
        return None
    groups = {name: normal(value) for name, value in match.groupdict().items()}
    slot = rule.slot.format(**groups)
    if slot and turn.speaker:
        slot = f"{normal(turn.speaker)}: {slot}"
    day = days[0].day if days else None
    since = day if rule.kind is Kind.FACT and day is not None else turn.said_at
    return Extracted(
        rule.kind,
        turn.text[sentence.start : sentence.end],
        sentence,
        IMPORTANCE[rule.kind],
        min(since, turn.said_at),
        slot=slot[:SLOT_CHARACTERS_MAX],
        value=(rule.value or said) if slot else "",
        happens_at=day,
    )


def normal(text: str) -> str:
    """A name or value as it is compared: its words in lower case, without articles, by single
    spaces."""
    words = _WORD.findall(text.casefold())
    return " ".join(word for word in words if word not in _ARTICLES)
