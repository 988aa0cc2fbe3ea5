"""SQuAD's questions over all of its paragraphs: what is found, what is answered, and how sure an
answer is that should not be given."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from ragmesh import Answer, Field, RankFusion, Rerank

from benchmarks.data import Question
from benchmarks.metrics import area_under_curve
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.suites.chat.material import COLLECTION, Material

SENTENCES_MAX = 2
_CALLERS = 2
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
Result = TypeVar("Result")


def answers(material: Material) -> SuiteReport:
    """Where the gold paragraph is found, and whether the gold answer stands in the answer."""
    paragraphs, client = material.paragraphs, material.client
    material.say(f"searching for {len(material.questions):,} questions")

    def place(question: Question) -> int:
        # As the chat service searches.
        found = client.search_collection(
            COLLECTION,
            question.text,
            limit=20,
            fusion=RankFusion(method="score"),
            rerank=Rerank(),
            ids_only=True,
        )
        ids = [hit.point.id for hit in found.hits]
        return ids.index(question.document) if question.document in ids else len(ids)

    places = np.array(each(material.questions, place))
    material.say("asking them")

    def put(question: Question) -> Answer:
        return client.ask_question(question.text, COLLECTION, confidence_min=0.0)

    given = each(material.questions, put)
    calibrated = [one for one in given if one.confidence >= 0.25]
    right = [holds(one, q) for one, q in zip(given, material.questions, strict=True)]
    sure = [r for r, one in zip(right, given, strict=True) if one.confidence >= 0.25]
    citations = [c for one in given for c in one.citations]
    stands = sum(
        paragraphs[c.point_id].text[c.span.start : c.span.end] == c.quote for c in citations
    )
    return SuiteReport(
        suite="chat",
        setting={
            "SQuAD": f"{len(paragraphs):,} paragraphs, {len(places):,} questions, random.seed(1)",
            "search": "hybrid, fused by scores, reranked by sentences",
        },
        figures=[
            Figure("gold paragraph in the first 20", float((places < 20).mean()), ""),
            Figure("gold answer in the answer, confidence at least 0.25", float(np.mean(sure)), ""),
            Figure("… of the questions that then have one", len(calibrated) / len(given), ""),
            Figure("searched twice", float(np.mean([one.requeried for one in given])), ""),
            Figure("citations", len(citations), ""),
        ],
        targets=[
            Target("chat_squad_rank_1", float((places < 1).mean())),
            Target("chat_squad_top_5", float((places < 5).mean())),
            Target("chat_squad_answered", float(np.mean(right))),
            Target("chat_quotes_that_stand", stands / max(1, len(citations))),
        ],
    )


def abstention(material: Material) -> SuiteReport:
    """How well confidence tells questions from the same ones without their paragraph."""
    assert material.paragraphs
    client = material.client
    material.say(f"asking {len(material.questions):,} questions with and without their paragraph")

    def sure(question: Question) -> tuple[float, float]:
        there = client.ask_question(question.text, COLLECTION)
        rest = Field("paragraph") != question.document
        away = client.ask_question(question.text, COLLECTION, filter=rest)
        return there.confidence, away.confidence

    pairs = np.array(each(material.questions, sure))
    area = area_under_curve(pairs[:, 0], pairs[:, 1])
    return SuiteReport(
        suite="chat",
        setting={"abstention": "the same questions with their own paragraph filtered out"},
        figures=[
            Figure("answered at 0.25, paragraph there", float((pairs[:, 0] >= 0.25).mean()), ""),
            Figure("answered at 0.25, paragraph away", float((pairs[:, 1] >= 0.25).mean()), ""),
        ],
        targets=[Target("chat_abstention_auc", area)],
    )


def each(questions: Sequence[Question], call: Callable[[Question], Result]) -> list[Result]:
    """The results of all questions, two at a time."""
    with ThreadPoolExecutor(_CALLERS) as callers:
        return list(callers.map(call, questions))


def holds(answer: Answer, question: Question) -> bool:
    """Whether one of the gold answers stands in an answer of at most two sentences, both read as
    SQuAD's own evaluation does: without case, punctuation and articles."""
    if len(answer.sentences) > SENTENCES_MAX:
        return False
    text = f" {plain(answer.text)} "
    return any(f" {plain(gold)} " in text for gold in question.answers)


def plain(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())
