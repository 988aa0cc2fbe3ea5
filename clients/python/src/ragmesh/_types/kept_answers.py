"""Values of answers that are kept, and of what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ragmesh._errors import RagmeshError
from ragmesh._types.answers import Answer
from ragmesh._types.embedding import TextSpan

AnswerState = Literal["unspecified", "running", "finished", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class ReceiptPassage:
    """A passage that the model got; `text_sha256` in hexadecimal digits."""

    collection: str
    point_id: str
    document: str
    passage_index: int
    span: TextSpan
    text_sha256: str
    score: float


@dataclass(frozen=True, slots=True)
class ReceiptModel:
    """A model that took part. `role` is `search` or `generate`; `fingerprint` tells its version."""

    role: str
    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class AnswerReceipt:
    """What an answer was made from. `watermarks` are those that its searches saw, by collection."""

    question: str
    collections: tuple[str, ...]
    generation_model: str
    passages_max: int
    context_tokens_max: int
    filtered: bool
    watermarks: Mapping[str, str]
    passages: tuple[ReceiptPassage, ...]
    models: tuple[ReceiptModel, ...]
    prompt_sha256: str
    plan: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it is now. `answer` is there once it is finished, `error` where it failed or
    was cancelled, `receipt` where it was asked for by its name."""

    name: str
    state: AnswerState
    question: str
    answer: Answer | None
    error: RagmeshError | None
    receipt: AnswerReceipt | None
    last_event_id: int
    create_time: datetime | None
    finish_time: datetime | None
    expire_time: datetime | None

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self.state != "running"
