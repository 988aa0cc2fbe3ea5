"""Answers that are kept: the handlers that show, follow and cancel them, and how they are begun."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.memory.v1 import memory_service_pb2 as memory
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval
from redis.asyncio import Redis

from engine.errors import Cancelled, RagmeshError, ServiceUnavailable
from services.chat import answers_convert as convert
from services.chat.answers_convert import Record
from services.chat.convert import failed
from services.chat.streams.streams import Streams
from services.chat.streams.writing import Written
from services.config import ChatSettings
from services.mesh.mesh import Mesh
from services.rpc import names, paging
from services.rpc.call import Call
from services.rpc.events import told
from services.store import answers
from services.store.store import Store

_LOG = logging.getLogger(__name__)

KNOWN_S = 10.0
"""How long what was asked about a collection or a model counts as known."""
KNOWN_MAX = 1_024


@dataclass(frozen=True, slots=True)
class Kept:
    """Where answers are kept, and by whom. `redis` may be None: then other nodes poll."""

    store: Store
    redis: Redis | None
    node_id: str
    settings: ChatSettings


class AnswerHandlers:
    """Handlers about kept answers. Without `kept`, answers are kept nowhere: they have no names,
    and streams cannot be resumed."""

    def __init__(self, mesh: Mesh, kept: Kept | None) -> None:
        self._kept = kept
        self._siblings = _Known(mesh)
        self._streams: Streams | None = None
        if kept is not None:
            self._streams = Streams(
                *(kept.store, kept.redis, kept.node_id, kept.settings), convert.failed_data
            )

    async def GetAnswer(self, request: pb.GetAnswerRequest, call: Call) -> pb.GetAnswerResponse:
        """Returns an answer with its receipt."""
        kept, answer_id = self._required(), _answer_id(request.name)
        async with kept.store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            row = await answers.get_answer(tx, answer_id)
            last = await answers.last_event(tx, answer_id) if row.answer is None else None
        error = None if last is None else convert.error_of(last.event)
        return pb.GetAnswerResponse(answer=convert.answer_message(row, receipt=True, error=error))

    async def ListAnswers(
        self, request: pb.ListAnswersRequest, call: Call
    ) -> pb.ListAnswersResponse:
        """Lists answers, the newest first."""
        kept, size = self._required(), paging.page_size(request.page_size)
        listing = f"answers/{request.state}"
        before = paging.read_token(listing, request.page_token) or ""
        async with kept.store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            rows = await answers.list_answers(
                tx, state=convert.STATES.get(request.state, ""), before=before, limit=size + 1
            )
        response = pb.ListAnswersResponse(answers=[convert.answer_message(r) for r in rows[:size]])
        if len(rows) > size:
            response.next_page_token = paging.write_token(listing, rows[size - 1].id)
        return response

    async def ResumeAnswer(
        self, request: pb.ResumeAnswerRequest, call: Call
    ) -> AsyncGenerator[pb.ResumeAnswerResponse, None]:
        """Gives the events of an answer after one of them."""
        events = await self._required_streams().follow(
            call.tenant,
            _answer_id(request.name),
            request.after_event_id,
            timeout_s=call.remaining_s(),
        )
        async with aclosing(events):
            async for event in events:
                yield pb.ResumeAnswerResponse(event=convert.read(event))

    async def CancelAnswer(
        self, request: pb.CancelAnswerRequest, call: Call
    ) -> pb.CancelAnswerResponse:
        """Ends an answer, whichever node writes it."""
        row = await self._required_streams().cancel(
            call.tenant,
            _answer_id(request.name),
            Cancelled("The answer was cancelled."),
            timeout_s=call.remaining_s(),
        )
        return pb.CancelAnswerResponse(answer=convert.answer_message(row))

    async def kept_stream(
        self,
        request: pb.StreamAnswerRequest,
        record: Record,
        model: str,
        pipeline: AsyncGenerator[pb.StreamAnswerResponse, None],
        call: Call,
    ) -> AsyncGenerator[pb.StreamAnswerResponse, None]:
        """Begins an answer of what `pipeline` gives, and gives its events as they are committed.
        What is wrong with the request itself is raised first."""
        streams, kept = self._required_streams(), self._required()
        await self._siblings.require(request, model, record, call)
        answer_id = names.new_id()
        name = f"answers/{answer_id}"
        first = convert.started(name, model)
        latest_s = time.monotonic() + kept.settings.answer_s_max
        deadline_s = min(latest_s, call.deadline_s or latest_s)
        source = _source(first, name, pipeline, record, replace(call, deadline_s=deadline_s))
        events = await streams.begin(
            (call.tenant, answer_id),
            request.SerializeToString(),
            first.SerializeToString(),
            source,
            timeout_s=call.remaining_s(),
        )
        async with aclosing(events):
            async for event in events:
                yield convert.read(event)

    async def keep_whole(self, answer: pb.Answer, record: Record, call: Call) -> None:
        """Keeps an answer that was no stream, and gives it its name. Where PostgreSQL does not
        answer it stays without: the answer is there all the same."""
        if self._kept is None:
            return
        answer_id = names.new_id()
        request = convert.as_stream(record.request).SerializeToString()
        answer.name = f"answers/{answer_id}"
        data = convert.kept(answer, record)
        try:
            async with self._kept.store.transaction(call.tenant, timeout_s=1.0) as tx:
                await answers.keep_answer(tx, answer_id, request, data)
        except RagmeshError as error:
            _LOG.info("an answer was not kept: %s", error.message)
            answer.name = ""

    async def note_models(
        self, request: pb.AskQuestionRequest, model: str, record: Record, call: Call
    ) -> None:
        """Notes which models take part in an answer that is kept."""
        if self._kept is not None:
            await self._siblings.require(request, model, record, call)

    def _required(self) -> Kept:
        if self._kept is None:
            raise ServiceUnavailable("This node keeps no answers: it has no PostgreSQL.")
        return self._kept

    def _required_streams(self) -> Streams:
        self._required()
        assert self._streams is not None
        return self._streams


class _Known:
    """What siblings say of collections and models, for a few seconds."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._collections: OrderedDict[tuple[str, str], tuple[float, collection_pb2.Collection]] = (
            OrderedDict()
        )
        self._models: OrderedDict[str, tuple[float, generation.GenerationModel]] = OrderedDict()

    async def require(
        self,
        request: pb.AskQuestionRequest | pb.StreamAnswerRequest,
        model: str,
        record: Record,
        call: Call,
    ) -> None:
        """Raises what is wrong with a request before anything is begun (a collection or a model
        that is not there, a filter that cannot be read), and notes the models."""
        for name in dict.fromkeys(request.collections):
            collection = await self._collection(name, call)
            record.model("search", collection.embedding_model, collection.fingerprint)
            if request.HasField("filter"):
                count = self._mesh.method("retrieval", "CountPoints")
                await count(
                    retrieval.CountPointsRequest(collection=name, filter=request.filter), call
                )
        if request.session:
            get = self._mesh.method("memory", "GetSession")
            await get(memory.GetSessionRequest(name=request.session), call)
        found = await self._model(model, call)
        record.model("generate", model, found.upstream_model)

    async def _collection(self, name: str, call: Call) -> collection_pb2.Collection:
        key, now_s = (call.tenant, name), time.monotonic()
        known = self._collections.get(key)
        if known is not None and now_s - known[0] < KNOWN_S:
            return known[1]
        get = self._mesh.retrieval.GetCollection
        response = await get(retrieval.GetCollectionRequest(name=name), call)
        self._collections[key] = (now_s, response.collection)
        if len(self._collections) > KNOWN_MAX:
            self._collections.popitem(last=False)
        return response.collection

    async def _model(self, name: str, call: Call) -> generation.GenerationModel:
        now_s = time.monotonic()
        known = self._models.get(name)
        if known is not None and now_s - known[0] < KNOWN_S:
            return known[1]
        get = self._mesh.method("generation", "GetGenerationModel")
        response = await get(generation.GetGenerationModelRequest(name=name), call)
        found: generation.GenerationModel = response.generation_model
        self._models[name] = (now_s, found)
        if len(self._models) > KNOWN_MAX:
            self._models.popitem(last=False)
        return found


async def _source(
    first: pb.StreamAnswerResponse,
    name: str,
    pipeline: AsyncGenerator[pb.StreamAnswerResponse, None],
    record: Record,
    call: Call,
) -> AsyncGenerator[Written, None]:
    """The events of a pipeline for the log, without the first one, which is there; a failure is
    the last one."""

    async def whole() -> AsyncGenerator[pb.StreamAnswerResponse, None]:
        yield first
        async with aclosing(pipeline):
            async for event in pipeline:
                yield convert.as_kept(event, name)

    async with aclosing(told(whole(), call, failed)) as events:
        async for event in events:
            if event.event_id > 1:
                yield convert.written(event, record)


def _answer_id(name: str) -> str:
    return names.parse(name, "answers/*", "name")[0]
