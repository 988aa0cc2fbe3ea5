"""Answers with the sentences of the passages that answer the question best."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

from engine.answers import merge
from engine.answers.evidence import AbstentionReason, Answer, Passage
from engine.answers.extractive import Settings
from engine.answers.parts import parts
from engine.types import Span, Vector
from services.generation import convert
from services.generation.backend import Abstention, Delta, Kind, Progress, Started, Task, Written
from services.mesh.mesh import Mesh
from services.rpc.call import Call

SENTENCES_MAX = 2
"""Of the answer to one question, or to each part of one."""

_WORD = re.compile(r"\S+")
_ABSTENTIONS: dict[AbstentionReason, Abstention] = {
    "": "",
    "NO_PASSAGE": "no_passage",
    "LOW_SUPPORT": "low_support",
}


class ExtractiveBackend:
    """Needs no language model: the embedding service embeds the question, and the sentences of
    passages that came without (a caller who passes those that a search returned saves this)."""

    kind: Kind = "extractive"
    display_name = "Extractive: quotes the sentences that answer best"
    upstream_model = ""
    fallbacks: Sequence[str] = ()

    def __init__(self, mesh: Mesh, threads: Executor) -> None:
        self._mesh = mesh
        self._threads = threads

    async def close(self) -> None:
        """Nothing to give back."""

    async def write(self, task: Task, call: Call) -> AsyncGenerator[Progress, None]:
        """The whole answer is known before its first event; each sentence is a Delta and a
        Citation. The parts of a question are answered one after the other. The temperature has no
        meaning here."""
        if not task.passages:
            yield Started()
            yield Written("", abstention="no_passage")
            return
        questions = parts(task.question)
        vectors = convert.question_vectors(
            await self._mesh.embedding.EmbedTexts(convert.questions_request(questions), call)
        )
        passages = await self._with_sentences(task.passages, vectors[0], call)
        answer = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            partial(
                merge.answer,
                questions,
                vectors,
                passages,
                sentences_max=SENTENCES_MAX,
                settings=_settings(task.confidence_min),
            ),
        )
        whole = len(answer.text)
        answer = shortened(answer, task.output_tokens_max)
        yield Started()
        end = 0
        for citation in answer.citations:
            yield Delta(answer.text[end : citation.answer_span.end])
            yield citation
            end = citation.answer_span.end
        yield Written(
            answer.text,
            answer.citations,
            answer.confidence,
            _ABSTENTIONS[answer.reason],
            cut=len(answer.text) < whole,
        )

    async def _with_sentences(
        self, passages: Sequence[Passage], question: Vector, call: Call
    ) -> list[Passage]:
        """The passages, each with sentences that compare with the question."""
        known = list(passages)
        missing = [index for index, p in enumerate(known) if not _comparable(p, question)]
        if missing:
            response = await self._mesh.embedding.EmbedTexts(
                convert.sentences_request([known[index].text for index in missing]), call
            )
            embedded = convert.embedded_sentences(response)
            for index, sentences in zip(missing, embedded, strict=True):
                known[index] = replace(known[index], sentences=sentences)
        return known


def _settings(confidence_min: float | None) -> Settings:
    return Settings() if confidence_min is None else Settings(confidence_min=confidence_min)


def _comparable(passage: Passage, question: Vector) -> bool:
    sentences = passage.sentences
    return sentences is not None and sentences.vectors.shape[1] == len(question)


def shortened(answer: Answer, words_max: int | None) -> Answer:
    """The first `words_max` words of an answer, with the citations of what is left."""
    words = list(_WORD.finditer(answer.text))
    if words_max is None or len(words) <= words_max:
        return answer
    end = words[words_max - 1].end()
    citations = tuple(
        replace(c, answer_span=Span(c.answer_span.start, min(c.answer_span.end, end)))
        for c in answer.citations
        if c.answer_span.start < end
    )
    return replace(answer, text=answer.text[:end], citations=citations)
