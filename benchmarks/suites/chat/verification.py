"""A language model that says what a passage says, or something else: which of it is found out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ragmesh import Answer

from benchmarks.data import Question
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.suites.chat.material import COLLECTION, SCRIPTED, Material
from benchmarks.suites.chat.provider import Line
from benchmarks.suites.chat.quality import each
from benchmarks.suites.chat.swaps import KINDS, changed, reworded
from engine.models.sentences import split

SENTENCES = 500
REWORDED = 2 / 3
"""Of all sentences, changed or not: the others are said to the letter."""

_CHARACTERS_MIN = 40


@dataclass(frozen=True, slots=True)
class Case:
    """A question and what is said to it; `kind` is what was changed, empty for nothing."""

    question: Question
    line: Line
    kind: str


def run(material: Material) -> SuiteReport:
    """Half of the sentences have a number, a date, a name or a negation changed."""
    wanted = 40 if material.quick else SENTENCES
    cases = list(_cases(material, wanted))
    material.provider.script = {case.question.text: case.line for case in cases}
    material.say(f"asking {len(cases)} questions of a scripted provider")

    by_text = {case.question.text: case for case in cases}

    def put(question: Question) -> tuple[str, bool]:
        answer = material.client.ask_question(
            question.text, COLLECTION, generation_model=SCRIPTED, passages_max=20
        )
        return by_text[question.text].kind, is_flagged(answer)

    found = each([case.question for case in cases], put)
    material.provider.script = {}
    counts = Counter(kind for kind, _ in found)
    flagged = Counter(kind for kind, is_wrong in found if is_wrong)
    swapped = sum(counts[kind] for kind in KINDS)
    caught = sum(flagged[kind] for kind in KINDS)
    return SuiteReport(
        suite="chat",
        setting={
            "verification": f"{len(cases)} sentences of SQuAD's paragraphs, {swapped} of them "
            "changed, two thirds reworded, through a provider over HTTP; random.seed(2)"
        },
        figures=[
            Figure(f"changed {kind}s that are flagged", flagged[kind] / counts[kind], "")
            for kind in KINDS
            if counts[kind]
        ],
        targets=[
            Target("chat_changed_flagged", caught / max(1, swapped)),
            Target("chat_others_flagged", flagged[""] / max(1, counts[""])),
        ],
    )


def is_flagged(answer: Answer) -> bool:
    """Whether an answer has a sentence that is not supported, or was not given."""
    return not answer.text or any(not sentence.supported for sentence in answer.sentences)


def _cases(material: Material, wanted: int) -> Iterator[Case]:
    """A sentence of the gold paragraph for each question, every second one changed; the kinds come
    in turns, as far as sentences have them."""
    random = Random(2)
    made: Counter[str] = Counter()
    for question in material.questions:
        if sum(made.values()) == wanted:
            return
        paragraph = material.paragraphs[question.document].text
        sentences = [paragraph[s.start : s.end] for s in split(paragraph)]
        sentences = [one for one in sentences if len(one) >= _CHARACTERS_MIN]
        if not sentences:
            continue
        source = random.choice(sentences)
        said = reworded(source, random) if random.random() < REWORDED else source
        if made[""] < sum(made[kind] for kind in KINDS) or made[""] * 2 < wanted <= made.total():
            made[""] += 1
            yield Case(question, Line(said, source), "")
            continue
        for kind in sorted(KINDS, key=lambda one: made[one]):
            other = changed(said, paragraph, kind, random)
            if other is not None:
                made[kind] += 1
                yield Case(question, Line(other.text, source), kind)
                break
