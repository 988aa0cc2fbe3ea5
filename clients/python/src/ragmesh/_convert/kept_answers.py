"""Messages of answers that are kept."""

from __future__ import annotations

from typing import cast

from ragmesh import _status
from ragmesh._convert import answers
from ragmesh._convert import embedding as vectors
from ragmesh._types import kept_answers as types
from ragmesh._values import from_enum, from_time
from ragmesh.api.chat.v1 import chat_service_pb2 as pb


def kept(message: pb.Answer) -> types.KeptAnswer:
    state = from_enum(pb.AnswerState.DESCRIPTOR, message.state)
    return types.KeptAnswer(
        name=message.name,
        state=cast(types.AnswerState, state),
        question=message.question,
        answer=answers.answer(message) if state == "finished" else None,
        error=_status.from_status(message.error) if message.HasField("error") else None,
        receipt=_receipt(message.receipt) if message.HasField("receipt") else None,
        last_event_id=message.last_event_id,
        create_time=from_time(message.create_time),
        finish_time=from_time(message.finish_time),
        expire_time=from_time(message.expire_time),
    )


def _receipt(message: pb.AnswerReceipt) -> types.AnswerReceipt:
    request = message.request
    return types.AnswerReceipt(
        question=request.question,
        collections=tuple(request.collections),
        generation_model=request.generation_model,
        passages_max=request.passages_max,
        context_tokens_max=request.context_tokens_max,
        filtered=request.HasField("filter"),
        watermarks=dict(message.watermarks),
        passages=tuple(
            types.ReceiptPassage(
                collection=one.collection,
                point_id=one.point_id,
                document=one.document,
                passage_index=one.passage_index,
                span=vectors.span(one.span),
                text_sha256=one.text_sha256,
                score=one.score,
            )
            for one in message.passages
        ),
        models=tuple(
            types.ReceiptModel(one.role, one.name, one.fingerprint) for one in message.models
        ),
        prompt_sha256=message.prompt_sha256,
        plan=tuple(message.plan),
    )
