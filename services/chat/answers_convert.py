"""Between the contract's answers and events, and the rows and logs that keep them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from google.rpc import status_pb2
from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from engine.errors import RagmeshError
from services.chat.core import Context
from services.chat.siblings import Found
from services.chat.streams.feed import Event
from services.chat.streams.writing import Written
from services.errors import to_status
from services.rpc.values import timestamp
from services.store.answers import KEPT_S, AnswerRow

STATES = {
    pb.ANSWER_STATE_RUNNING: "running",
    pb.ANSWER_STATE_FINISHED: "finished",
    pb.ANSWER_STATE_FAILED: "failed",
    pb.ANSWER_STATE_CANCELLED: "cancelled",
}
_NUMBERS = {state: number for number, state in STATES.items()}


@dataclass(slots=True)
class Record:
    """What goes into the receipt of one answer, gathered while it is made."""

    request: pb.AskQuestionRequest | pb.StreamAnswerRequest
    watermarks: dict[str, str] = field(default_factory=dict)
    passages: Sequence[Found] = ()
    models: list[pb.ReceiptModel] = field(default_factory=list)
    prompt_sha256: str = ""
    plan: list[str] = field(default_factory=list)

    def searched(self, collection: str, response: retrieval.SearchCollectionResponse) -> None:
        """Notes the search of a collection."""
        self.watermarks[collection] = response.watermark
        self.plan.append(f"search {collection}: {len(response.hits)} passages")

    def contextual(self, context: Context, prompt: bytes) -> None:
        """Notes what the model got; `prompt` is the whole request, empty for none."""
        self.passages = context.passages
        self.plan.append(f"context: {len(context.passages)} passages")
        if prompt:
            self.prompt_sha256 = hashlib.sha256(prompt).hexdigest()

    def model(self, role: str, name: str, fingerprint: str) -> None:
        """Notes a model that takes part, once in each role."""
        model = pb.ReceiptModel(role=role, name=name, fingerprint=fingerprint)
        if name and model not in self.models:
            self.models.append(model)

    def receipt(self, answer: pb.Answer) -> pb.AnswerReceipt:
        """The receipt of the answer that was made of it."""
        said = f"{len(answer.citations)} citations hold"
        if answer.abstention_reason:
            said = "abstained"
        return pb.AnswerReceipt(
            request=as_stream(self.request),
            watermarks=self.watermarks,
            passages=[_receipt_passage(found) for found in self.passages],
            models=self.models,
            prompt_sha256=self.prompt_sha256,
            plan=[*self.plan, f"generate and check by {answer.generation_model}: {said}"],
        )


def as_stream(request: pb.AskQuestionRequest | pb.StreamAnswerRequest) -> pb.StreamAnswerRequest:
    """A question in the form in which it is kept: both forms have the same fields."""
    if isinstance(request, pb.StreamAnswerRequest):
        return request
    return pb.StreamAnswerRequest.FromString(request.SerializeToString())


def _receipt_passage(found: Found) -> pb.ReceiptPassage:
    passage = found.passage
    return pb.ReceiptPassage(
        collection=passage.collection,
        point_id=passage.point_id,
        document=passage.document,
        passage_index=passage.passage_index,
        span=vector_pb2.TextSpan(start=found.start, end=found.start + len(passage.text)),
        text_sha256=hashlib.sha256(passage.text.encode()).hexdigest(),
        score=passage.score,
    )


def kept(answer: pb.Answer, record: Record) -> bytes:
    """An answer as it is kept: with its receipt."""
    whole = pb.Answer()
    whole.CopyFrom(answer)
    whole.receipt.CopyFrom(record.receipt(answer))
    return whole.SerializeToString()


def started(name: str, model: str) -> pb.StreamAnswerResponse:
    """The first event of a kept answer, without its number."""
    return pb.StreamAnswerResponse(started=pb.AnswerStarted(generation_model=model, answer=name))


def as_kept(event: pb.StreamAnswerResponse, name: str) -> pb.StreamAnswerResponse:
    """An event as it is kept: what the pipeline begins with says that the search is done."""
    match event.WhichOneof("event"):
        case "started":
            passages = event.started.context_passages
            return pb.StreamAnswerResponse(retrieved=pb.AnswerRetrieved(context_passages=passages))
        case "finished":
            event.finished.name = name
    return event


def written(event: pb.StreamAnswerResponse, record: Record) -> Written:
    """An event for the log."""
    event.event_id = 0
    kind, data = event.WhichOneof("event"), event.SerializeToString()
    if kind == "finished":
        return Written(data, "finished", kept(event.finished, record))
    return Written(data, "failed" if kind == "failed" else "")


def read(event: Event | int) -> pb.StreamAnswerResponse:
    """What a reader gets: an event of the log with its number, or a sign of life."""
    if isinstance(event, int):
        return pb.StreamAnswerResponse(event_id=event, heartbeat=pb.AnswerHeartbeat())
    message = pb.StreamAnswerResponse.FromString(event.data)
    message.event_id = event.id
    return message


def failed_data(error: RagmeshError) -> bytes:
    """The last event of a log that ends with an error."""
    status = to_status(error, "")
    return pb.StreamAnswerResponse(failed=status).SerializeToString()


def error_of(event: bytes) -> status_pb2.Status | None:
    """Why a log ended, by its last event; None where that says no failure."""
    message = pb.StreamAnswerResponse.FromString(event)
    return message.failed if message.HasField("failed") else None


def answer_message(
    row: AnswerRow, *, receipt: bool = False, error: status_pb2.Status | None = None
) -> pb.Answer:
    """An answer as it is now."""
    answer = pb.Answer()
    if row.answer is not None:
        answer.ParseFromString(row.answer)
    else:
        request = pb.StreamAnswerRequest.FromString(row.request)
        answer.question, answer.generation_model = request.question, request.generation_model
    if not receipt:
        answer.ClearField("receipt")
    answer.name = f"answers/{row.id}"
    answer.state = _NUMBERS[row.state]
    answer.last_event_id = row.last_event_id
    expires = row.create_time + timedelta(seconds=KEPT_S)
    for name, value in (
        ("create_time", row.create_time),
        ("finish_time", row.finish_time),
        ("expire_time", expires),
    ):
        stamp = timestamp(value)
        if stamp is not None:
            getattr(answer, name).CopyFrom(stamp)
    if error is not None:
        answer.error.CopyFrom(error)
    return answer
