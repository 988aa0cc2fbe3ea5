"""Sentences that tell a reader what to do instead of saying what is so.

Who wrote a document may have written an instruction into it for whatever reads it. An extractive
answer never follows one, but would quote it, which reads as if it came from the answerer. So such a
sentence, and code, only answers a question that it shares most of its words with, as a manual's
"Press the red button to stop the pump" does; one that speaks of the answer itself never does.
"""

from __future__ import annotations

import re

_VERBS = (
    "absorb add adjust adopt anagram analyze append apply argue arrange ask assess assume "
    "augment begin blend break build bypass calculate call change check choose classify click "
    "combine compare compile complete compose compute consider construct contact convert copy "
    "correct count create criticize debate decode defend define delete deliver demonstrate "
    "deploy derive describe design detect determine develop differentiate disclose discuss "
    "display disregard distinguish divide do download draft draw edit email embed employ "
    "emulate enable encode encrypt engage enhance enlist enrich ensure enter estimate evaluate "
    "examine execute expand explain expose extract fetch fill find fix focus follow forget "
    "format formulate forward fuse generate give group guide harmonize help highlight identify "
    "ignore illustrate imagine implement include incorporate increase infer infuse inject "
    "insert inspect install integrate interpret interweave introduce invent judge jumble "
    "justify keep label leverage list look make match meld memorize mention merge misspell "
    "modify name notice obey offer omit open organize outline output override paraphrase pay "
    "perform pick post predict prepare pretend print promote proofread propose provide publish "
    "put quote rank rate read rearrange recall recite recognize recommend recount reduce refer "
    "reformulate refuse relate remember remove rename render repeat rephrase replace reply "
    "report request resolve respond restate return reveal reverse review rewrite run say "
    "schedule score scramble search select send share shorten show sign simplify simulate "
    "sketch solve sort speak specify spell stop submit subscribe substitute suggest summarize "
    "switch tag talk tease tell test think trace transfer transform translate try turn type "
    "unlock unscramble update upload use utilize validate verify visit weave wire write"
)
_LEADS = (
    "please also then now next first finally instead additionally afterwards seamlessly just "
    "kindly always never and but so ok okay hey important note attention system assistant user ai "
    "instruction instructions task"
)
_VERB_WORDS = frozenset(_VERBS.split())
_LEAD_WORDS = frozenset(_LEADS.split())
_AFTER_NOUNS = frozenset(
    ("of", "is", "was", "are", "were", "has", "have", "had", "and", "in", "by", "among", "between")
)
"""What follows the same word as a noun: "Use of", "Changes and", "Design is"."""

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_BREAK = re.compile(r"\n+|(?<=[:;])\s+")
_ANSWERER = re.compile(
    r"\byour (?:next |final |whole )?(?:response|answer|reply|output|solution|implementation|"
    r"codebase|algorithm|elucidation)\b"
    r"|\b(?:ignore|disregard|forget) (?:all|any|every|the|your|previous|prior|above|these|those)\b",
    re.IGNORECASE,
)
_PHRASE = re.compile(
    r"\byour (?:message|code)\b|\b(?:following|subsequent|below) code\b"
    r"|\bdon['\u2019]t (?:forget|hesitate)\b"
    r"|\byou (?:must|are now|will now|should now|have to now)\b"
    r"|\b(?:can|could|would|will) you (?:please )?[a-z]+\b"
    r"|\b(?:i|we) (?:want|need|would like|['\u2019]d like) (?:you|to)\b"
    r"|^\s*(?:let(?:['\u2019]s| me| us)?)\b",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"```|^\s*(?:import|from|def|class|print|with|return|try|except|for|while|if)\b[^.?!]*[(:=\[]"
    r"|^\s*import \w+|\w\((?:[\w.]+\()?[\"']|\w\.\w+\(|\w+ ?= ?[\w\"'\[({]|[{};]\s*$|<script|</",
    re.MULTILINE,
)


def is_instruction(text: str) -> bool:
    """Whether a sentence, or a line of it, gives an order, speaks of the answer, or is code."""
    if addresses_answerer(text) or _PHRASE.search(text) or _CODE.search(text):
        return True
    lines = [line for line in _BREAK.split(text) if line]
    return any(
        _commands(line) and (number == 0 or line[0].isupper()) for number, line in enumerate(lines)
    )


def addresses_answerer(text: str) -> bool:
    """Whether a sentence speaks of the answer that is being written ("in your response"), or wants
    what was said before to be ignored: no question is answered by that."""
    return _ANSWERER.search(text) is not None


def is_mixed(text: str) -> bool:
    """Whether some lines of a sentence are instructions or code and others are not: then it is no
    sentence of the document's, but something was put beside one."""
    lines = [line for line in text.split("\n") if line.strip()]
    told = sum(is_instruction(line) for line in lines)
    return 0 < told < len(lines)


def _commands(line: str) -> bool:
    """Whether a line begins with the bare form of a verb of doing, be it after "please"."""
    words = [match.group().casefold() for match in _WORD.finditer(line[:200])]
    while words and words[0] in _LEAD_WORDS:
        words = words[1:]
    return len(words) > 1 and words[0] in _VERB_WORDS and words[1] not in _AFTER_NOUNS
