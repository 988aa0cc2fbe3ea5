"""What of a sentence can be wrong though it reads well: numbers, dates, names, negations.

A sentence is read as tokens. Numbers are compared by value, so "2 million", "two million" and
"2,000,000" are one; "twenty-five" is 25 and "3rd" is 3. "2016-02-07" is a year, a month and a
day, as "February 7, 2016" is. A name is a word with a capital letter where a sentence does not
begin; at its beginning, one that the passages have with a capital letter elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engine.answers.words import is_stop, stem

Kind: TypeAlias = Literal[
    "WORD", "STOP", "NUMBER", "YEAR", "MONTH", "WEEKDAY", "NAME", "NOT", "END"
]
FACTS: frozenset[Kind] = frozenset(("NUMBER", "YEAR", "MONTH", "WEEKDAY", "NAME"))
DATES: frozenset[Kind] = frozenset(("YEAR", "MONTH", "WEEKDAY"))

_ISO = re.compile(r"\b(1\d{3}|20\d{2})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b")
_TOKEN = re.compile(
    r"(?P<number>\d+(?:[.,]\d+)*)(?:(?:st|nd|rd|th)\b)?"
    r"|(?P<word>[^\W_]+(?:['\u2019][^\W_]+)*)"
    r"|(?P<end>[.,;:!?()\u2014])"
)
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
    "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
_VALUES: dict[str, int] = {
    **{word: value for value, word in enumerate(_UNITS.split())},
    **{word: 20 + 10 * place for place, word in enumerate(_TENS.split())},
    **{word: value for value, word in enumerate(_ORDINALS.split())},
}
_TENS_WORDS = frozenset(_TENS.split())
_SCALES = {
    "hundred": 100,
    "thousand": 1_000,
    "million": 1_000_000,
    "billion": 1_000_000_000,
    "trillion": 1_000_000_000_000,
}
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTH_OF = {
    **{name: number for number, name in enumerate(_MONTHS, 1)},
    **{name[:3]: number for number, name in enumerate(_MONTHS, 1)},
    "sept": 9,
}
_AMBIGUOUS_MONTHS = frozenset(("may", "march", "mar", "jan", "jun", "dec", "sep", "oct", "nov"))
_WEEKDAYS = frozenset(
    ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
)
_NEGATIONS = frozenset(
    (
        *("not", "never", "no", "none", "nobody", "nothing"),
        *("nowhere", "neither", "nor", "without", "cannot"),
    )
)
_YEAR_MIN, _YEAR_MAX = 1000, 2100
_BE = frozenset(["is", "are", "was", "were", "be", "been", "being"])

SOFT_VALUES = frozenset(("1",))
"""A missing "one" or "first" alone is no fault: both are said without counting."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number or mark. `key` compares tokens: a stem, a value, a name's stem.

    `is_first` is set for the first word of the sentence, whose capital letter says nothing.
    """

    key: str
    kind: Kind
    is_capital: bool = False
    is_first: bool = False


def read(sentence: str, names: frozenset[str] = frozenset()) -> tuple[Token, ...]:
    """The tokens of one sentence.

    `names` are stems of words that are known as names: at the beginning of a sentence only these
    count as such (see `names_in`), or those before another word with a capital letter.
    """
    sentence = _ISO.sub(lambda d: f"{d[1]} {_MONTHS[int(d[2]) - 1].title()} {d[3]}", sentence)
    found: list[Token] = []
    first = True
    matches = list(_TOKEN.finditer(sentence))
    for place, match in enumerate(matches):
        number, word = match.group("number"), match.group("word")
        if number is not None:
            found.append(_number(number))
        elif word is not None:
            following = matches[place + 1].group("word") if place + 1 < len(matches) else None
            found += _word(word, following, names, is_first=first)
        else:
            found.append(Token(match.group(), "END"))
        first = first and match.group("end") is not None
    return tuple(_joined(found))


def names_in(sentences: Iterable[str]) -> frozenset[str]:
    """Stems of the words that have a capital letter where no sentence begins."""
    found: set[str] = set()
    for sentence in sentences:
        words = [m for m in _TOKEN.finditer(sentence) if m.group("word")]
        found.update(
            stem(match.group().casefold()) for match in words[1:] if _is_name(match.group())
        )
    return frozenset(found)


def initials(tokens: Sequence[Token]) -> frozenset[str]:
    """What runs of names would be called by their first letters: "nfl" for "National Football
    League"."""
    found: set[str] = set()
    run = ""
    for token in tokens:
        if token.is_capital:
            run += token.key[:1]
            found.update(run[start:] for start in range(len(run) - 1))
        elif token.kind != "STOP":
            run = ""
    return frozenset(found)


def is_passive(tokens: Sequence[Token]) -> bool:
    """Whether a form of "be" and a "by" stand in it: who did what to whom is then said the other
    way round."""
    keys = {token.key for token in tokens}
    return "by" in keys and bool(keys & _BE)


def negated(tokens: Sequence[Token], reach: int) -> list[tuple[str, ...]]:
    """For each negation, the next `reach` words that carry meaning, up to a mark or the end.

    "not only" negates nothing, nor does "no" before a number ("No. 5").
    """
    found: list[tuple[str, ...]] = []
    for place, token in enumerate(tokens):
        if token.kind != "NOT":
            continue
        after = tokens[place + 1 : place + 3]
        if token.key == "not" and after and after[0].key == "only":
            continue
        if token.key == "no" and any(t.kind == "NUMBER" for t in after):
            continue
        words: list[str] = []
        for following in tokens[place + 1 :]:
            if following.kind == "END" or len(words) == reach:
                break
            if following.kind not in ("STOP", "NOT"):
                words.append(following.key)
        found.append(tuple(words))
    return found


def _number(text: str) -> Token:
    whole = text.replace(",", "") if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text) else text
    if "," not in text and whole.isdigit() and len(whole) == 4:
        value = int(whole)
        if _YEAR_MIN <= value <= _YEAR_MAX:
            return Token(whole, "YEAR")
    return Token(_canonical(whole), "NUMBER")


def _canonical(digits: str) -> str:
    """ "007" and "7.0" as "7"; what is no number ("1.2.3") stays."""
    try:
        value = float(digits)
    except ValueError:
        return digits
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _word(
    word: str, following: str | None, names: frozenset[str], *, is_first: bool
) -> list[Token]:
    folded = word.casefold().replace("\u2019", "'")
    if folded.endswith("n't"):
        verb = {"can't": "can", "won't": "will", "shan't": "shall"}.get(folded, folded[:-3])
        return [Token(stem(verb), "STOP" if is_stop(verb) else "WORD"), Token("not", "NOT")]
    if folded in _NEGATIONS:
        return [Token("not" if folded == "cannot" else folded, "NOT")]
    key = stem(folded)
    capital = word[0].isupper()
    if folded in _MONTH_OF and capital and not (is_first and folded in _AMBIGUOUS_MONTHS):
        return [Token(f"month {_MONTH_OF[folded]}", "MONTH", is_capital=True)]
    if folded in _WEEKDAYS and capital:
        return [Token(folded, "WEEKDAY", is_capital=True)]
    if folded in _VALUES or folded in _SCALES:
        return [Token(folded, "NUMBER")]
    if is_stop(folded):
        return [Token(folded, "STOP", is_first=is_first)]
    if not _is_name(word):
        return [Token(key, "WORD", is_first=is_first)]
    known = not is_first or key in names or (following is not None and _is_name(following))
    return [Token(key, "NAME" if known else "WORD", is_capital=True, is_first=is_first)]


def _is_name(word: str) -> bool:
    """Has a capital letter, and is neither "I" nor a word of few meanings ("The", "In")."""
    return any(c.isupper() for c in word) and not is_stop(word.casefold())


def _joined(tokens: Sequence[Token]) -> list[Token]:
    """Number words as numbers: "twenty-five" as 25, "2 million" as 2000000."""
    found: list[Token] = []
    for token in tokens:
        if token.kind != "NUMBER":
            found.append(token)
            continue
        before = found[-1] if found and found[-1].kind == "NUMBER" else None
        if token.key in _SCALES:
            scale = _SCALES[token.key]
            if before is not None and _is_plain(before.key):
                found[-1] = Token(_canonical(repr(float(before.key) * scale)), "NUMBER")
            else:
                found.append(Token(str(scale), "NUMBER"))
        elif token.key in _VALUES:
            value = _VALUES[token.key]
            tens = before is not None and before.key in ("20", "30", "40", "50", "60", "70")
            tens = tens or (before is not None and before.key in ("80", "90"))
            if before is not None and tens and 0 < value < 10:
                found[-1] = Token(str(int(before.key) + value), "NUMBER")
            else:
                found.append(Token(str(value), "NUMBER"))
        else:
            found.append(token)
    return found


def _is_plain(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
