"""What `ragmesh replay` calls different."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ragmesh import (
    Answer,
    AnswerReceipt,
    AnswerTimings,
    KeptAnswer,
    ReceiptModel,
    ReceiptPassage,
    TextSpan,
    Usage,
)

from engine.errors import FailedPrecondition
from services.commands.receipt import differences

PASSAGE = ReceiptPassage("collections/c", "p1", "", 0, TextSpan(0, 3), "aa", 0.5)
RECEIPT = AnswerReceipt(
    question="why?",
    collections=("collections/c",),
    generation_model="",
    passages_max=0,
    context_tokens_max=0,
    filtered=False,
    watermarks={"collections/c": "7"},
    passages=(PASSAGE,),
    models=(ReceiptModel("generate", "generationModels/m", "v1"),),
    prompt_sha256="p",
    plan=(),
)
TIMINGS = AnswerTimings(1.0, 1.0, 1.0, 1.0, 4.0)
ANSWER = Answer("why?", "So.", (), 0.9, None, TIMINGS, Usage(0, 0), "generationModels/m", 1, "a")


def kept(answer: Answer = ANSWER, **changed: Any) -> KeptAnswer:
    receipt = replace(RECEIPT, **changed)
    return KeptAnswer("answers/a", "finished", "why?", answer, None, receipt, 0, None, None, None)


def told(after: KeptAnswer) -> list[tuple[str, str, str]]:
    return [(one.what, one.before, one.after) for one in differences(kept(), after)]


def test_the_same_passages_and_the_same_text_are_the_same_whatever_was_written_elsewhere() -> None:
    assert told(kept(watermarks={"collections/c": "9"})) == []


def test_each_thing_that_changed_is_told_with_what_it_was() -> None:
    changed = replace(PASSAGE, text_sha256="bb")
    more = replace(PASSAGE, point_id="p2", text_sha256="cc")
    after = kept(
        replace(ANSWER, text="", abstention_reason="low_support"),
        passages=(changed, more),
        watermarks={"collections/c": "9"},
        models=(ReceiptModel("generate", "generationModels/m", "v2"),),
        prompt_sha256="q",
    )
    assert told(after) == [
        ("model generationModels/m (generate)", "v1", "v2"),
        ("passage collections/c p1", "aa", "bb"),
        ("passage collections/c p2", "", "cc"),
        ("watermark of collections/c", "7", "9"),
        ("prompt", "p", "q"),
        ("text", "So.", ""),
        ("abstention", "", "low_support"),
    ]
    assert told(kept(passages=()))[0] == ("passage collections/c p1", "aa", "")


def test_an_answer_without_a_receipt_cannot_be_compared() -> None:
    with pytest.raises(FailedPrecondition, match="running"):
        differences(kept(), replace(kept(), state="running", receipt=None))
