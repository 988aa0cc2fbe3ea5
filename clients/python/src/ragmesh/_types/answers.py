"""Values of the generation and chat services."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ragmesh._types.embedding import SentenceVector, TextSpan

Backend = Literal["unspecified", "extractive", "openai", "anthropic"]
Role = Literal["system", "user", "assistant", "tool"]
ToolMode = Literal["auto", "none", "required"]
FinishReason = Literal["unspecified", "stop", "length", "tool_calls", "budget", "filtered"]
AbstentionReason = Literal["no_passage", "low_support", "unverified"]
UnsupportedPolicy = Literal["", "flag", "withhold"]
SupportFault = Literal["unspecified", "no_evidence", "number", "date", "name", "negation"]


@dataclass(frozen=True, slots=True)
class SourcePassage:
    """A passage that an answer may rest on; `text` is what counts, the rest names its place."""

    text: str
    collection: str = ""
    point_id: str = ""
    document: str = ""
    passage_index: int = 0
    span: TextSpan | None = None
    score: float = 0.0
    sentences: tuple[SentenceVector, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """The place that a piece of an answer rests on; the quote was checked to stand there.

    `span` is counted in the document's stored text (the point's text where there is no
    document), `answer_span` in the answer. `score` is 0 to 1.
    """

    collection: str
    point_id: str
    document: str
    passage_index: int
    span: TextSpan
    quote: str
    answer_span: TextSpan
    score: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in the model's own count; 0 for the extractive model.

    `cost_nanos` is in billionths of `currency`, by the price file's `price_version`, which is empty
    for a model without a price. `estimated` tokens are the server's, not the endpoint's.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cost_nanos: int = 0
    currency: str = ""
    price_version: str = ""
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants you to call. `arguments` are JSON, as it wrote them."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool that the model may call. `parameters_schema` is a JSON Schema, as JSON."""

    name: str
    description: str = ""
    parameters_schema: str = ""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message of a chat. `tool_calls` are an assistant's; what a tool said names its call."""

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A text and what it rests on. `abstention_reason` says why `text` is empty, if it is.

    `confidence` is 0 to 1; `cut` tells that it stopped at `output_tokens_max`, `finish_reason` why
    it stopped at all. `model` wrote it: the one asked for, or one of its fallbacks.
    """

    text: str
    citations: tuple[Citation, ...]
    confidence: float
    abstention_reason: AbstentionReason | None
    usage: Usage
    cut: bool
    generate_ms: float
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "unspecified"
    model: str = ""


@dataclass(frozen=True, slots=True)
class AnswerTimings:
    """Milliseconds of one answer."""

    search_ms: float
    context_ms: float
    generate_ms: float
    check_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A question that was asked before, and its answer; empty if there was none."""

    question: str
    answer: str = ""


@dataclass(frozen=True, slots=True)
class AnswerSentence:
    """A sentence of an answer, held against the passages.

    `span` counts in the answer's text, `faults` say what is wrong with it, `citation_indexes` which
    of the answer's citations it rests on. `coverage` is the share of its words that its evidence
    has, 0 to 1.
    """

    span: TextSpan
    supported: bool
    faults: tuple[SupportFault, ...]
    citation_indexes: tuple[int, ...]
    coverage: float


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it rests on. `abstention_reason` says why `text` is empty, if it is.

    `standalone_question` is the question as it was answered, where it leaned on what was said
    before; `parts` are the questions it was taken apart into, if it was. `requeried` tells that the
    first search found little; `withheld_sentences` counts those left out of `text`.
    """

    question: str
    text: str
    citations: tuple[Citation, ...]
    confidence: float
    abstention_reason: AbstentionReason | None
    timings: AnswerTimings
    usage: Usage
    generation_model: str
    context_passages: int
    standalone_question: str = ""
    parts: tuple[str, ...] = ()
    sentences: tuple[AnswerSentence, ...] = ()
    requeried: bool = False
    withheld_sentences: int = 0


@dataclass(frozen=True, slots=True)
class GenerationModel:
    """A model that writes answers. `upstream_model` is the endpoint's name for it, `fallbacks` who
    is asked where it cannot begin."""

    name: str
    display_name: str
    backend: Backend
    upstream_model: str
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Between which bounds an answer's tokens, and its cost in billionths of `currency`, will lie.
    `price_version` is empty for a model without a price."""

    input_tokens_low: int
    input_tokens_high: int
    output_tokens_high: int
    cost_low_nanos: int
    cost_high_nanos: int
    currency: str
    price_version: str


@dataclass(frozen=True, slots=True)
class Budget:
    """What answers may cost: of the whole tenant, or of one `session`.

    A limit of 0 bounds nothing. Money is in billionths of the price file's currency. `reserved_…`
    is held for answers that are being written.
    """

    name: str
    session: str
    limit_nanos: int
    limit_tokens: int
    spent_nanos: int
    spent_tokens: int
    reserved_nanos: int
    reserved_tokens: int
    create_time: datetime | None
    update_time: datetime | None


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """The first event of a generated text."""

    model: str


@dataclass(frozen=True, slots=True)
class AnswerStarted:
    """The first event of an answer: the search is done and the model has begun."""

    generation_model: str
    context_passages: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text, to be appended."""

    text: str


# What streams give, in order; the last one is the whole.
GenerationEvent = GenerationStarted | TextDelta | Citation | ToolCall | GeneratedText
AnswerEvent = AnswerStarted | TextDelta | Citation | Answer
