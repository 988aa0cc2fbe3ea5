"""How long a question takes over 5,000 passages, beside its parts in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ragmesh import Client, Embedding, Vector

from benchmarks.data import Text, scifact
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.suites.chat.material import Material
from benchmarks.timing import in_turns
from engine.answers import merge
from engine.answers.evidence import Passage
from engine.answers.parts import parts
from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.fusion import FusionMethod
from engine.index.query import Query
from engine.index.reranking import CANDIDATES_DEFAULT
from engine.index.stages import Staged, find, finish, rerank_by_sentences
from engine.index.words import Analyzer
from engine.models import default
from engine.models.encoder import Encoder
from engine.types import Point, Sentences

COLLECTION = "passages"
PASSAGES = 5_000
CONTEXT_PASSAGES = 13
"""What a context of 2,000 tokens holds of such passages."""

_BATCH = 64


def run(material: Material) -> SuiteReport:
    """p50 of AskQuestion, of the first event of StreamAnswer, and of what they are made of."""
    count = 400 if material.quick else PASSAGES
    texts = [Text(one.id, "", one.text) for one in material.paragraphs.values()]
    texts += [one for one in scifact().documents if one.text.strip()]
    texts = texts[:count]
    material.client.create_collection(COLLECTION)
    material.upsert(COLLECTION, texts)
    inside = _Inside(material.client, texts)
    questions = [one.text for one in material.questions]
    material.say("asking, one at a time")
    first_ms: list[float] = []

    def ask(i: int) -> None:
        material.client.ask_question(questions[i % len(questions)], COLLECTION)

    def stream(i: int) -> None:
        begin_s = time.perf_counter()
        events = material.client.stream_answer(questions[(i + 500) % len(questions)], COLLECTION)
        for number, _ in enumerate(events):
            if number == 0:
                first_ms.append((time.perf_counter() - begin_s) * 1000)

    def alone(i: int) -> None:
        inside.answer(questions[(i + 250) % len(questions)])

    rounds, calls = (2, 10) if material.quick else (7, 30)
    times = in_turns(
        {"ask": ask, "stream": stream, "parts": alone}, rounds=rounds, calls=calls, warm_up=10
    )
    asked, made = times["ask"].p50_ms(), times["parts"].p50_ms()
    return SuiteReport(
        suite="chat",
        setting={"latency": f"{count:,} passages, other questions each time, one at a time, gRPC"},
        comparisons=[
            Comparison(
                "a question answered, p50",
                Figure("AskQuestion", asked, "ms"),
                Figure("embedded, searched, reranked, extracted in process", made, "ms"),
            )
        ],
        figures=[Figure("AskQuestion, p99", times["ask"].p99_ms(), "ms")],
        targets=[
            Target("chat_ask_p50_ms", asked),
            Target("chat_first_event_p50_ms", float(np.median(first_ms))),
            Target("chat_overhead_p50_ms", asked - made),
        ],
    )


class _Inside:
    """The same index and the same steps in this process."""

    def __init__(self, client: Client, texts: Sequence[Text]) -> None:
        self._encoder = Encoder.load(
            default.directory(), Path.home() / ".cache/ragmesh/models", threads=1
        )
        self._words = Analyzer("en").words
        index = CollectionIndex(IndexSettings(self._encoder.dimensions))
        for at in range(0, len(texts), _BATCH):
            batch = texts[at : at + _BATCH]
            found = client.embed_texts(
                [one.text for one in batch],
                truncate=True,
                include_sentences=True,
                lane="bulk",
                timeout_s=300,
            )
            points = [
                Point(one.id, _vector(row.vector), one.text, sentences=_sentences(row))
                for one, row in zip(batch, found.embeddings, strict=True)
            ]
            index.apply(points, [], at + 1, "bulk")
        self._view = index.view

    def answer(self, question: str) -> None:
        """Embed, search, rerank, extract."""
        (vector,) = self._encoder.embed([question], "query", truncate=True).vectors
        staged = Staged(
            Query(vector=vector, text=question, limit=20, fusion=FusionMethod.SCORE),
            rerank=CANDIDATES_DEFAULT,
        )
        found = find(self._view, staged, 0.0, self._words)
        found = rerank_by_sentences(found, staged, vector, question, self._words) or found
        passages = [
            Passage("", hit.point.id, "", 0, hit.point.text, hit.score, hit.point.sentences)
            for hit in finish(found.hits, staged).hits[:CONTEXT_PASSAGES]
        ]
        asked = parts(question)
        merge.answer(asked, [vector] * len(asked), passages, sentences_max=2)


def _vector(vector: Vector) -> NDArray[np.float32]:
    return np.frombuffer(vector.packed, np.float32)


def _sentences(embedding: Embedding) -> Sentences | None:
    if not embedding.sentences:
        return None
    return Sentences(
        np.array([(s.span.start, s.span.end) for s in embedding.sentences], np.int32),
        np.array([np.frombuffer(s.int8_vector, np.int8) for s in embedding.sentences]),
    )
