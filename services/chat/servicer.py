"""The chat service's handlers: check, call, translate, answer."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ragmesh.api.chat.v1 import chat_service_pb2 as pb
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.generation.v1.generation_service_pb2 import TextDelta

from engine.answers.rewrite import Turn
from engine.errors import InvalidField, UpstreamFailed
from services.chat import convert
from services.chat.answers_convert import Record
from services.chat.answers_servicer import AnswerHandlers, Kept
from services.chat.checks import CHECKS
from services.chat.core import Ask, Context, gather_context
from services.chat.grounding import ground, verified
from services.chat.rewriting import EXTRACTIVE_MODEL, REWRITTEN_TOKENS_MAX, rewriting
from services.chat.siblings import Found
from services.config import GenerationSettings
from services.errors import from_status
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.rpc.events import told


class ChatServicer(AnswerHandlers):
    """Answers questions with the help of retrieval, embedding and generation."""

    checks = CHECKS

    def __init__(self, settings: GenerationSettings, mesh: Mesh, kept: Kept | None = None) -> None:
        super().__init__(mesh, kept)
        self._default_model = settings.default
        self._mesh = mesh

    async def start(self) -> None:
        """Begins to look after streamed answers; siblings are found when they are asked."""
        if self._streams is not None:
            self._streams.start()

    async def drain(self) -> None:
        """Answers that are being written have readers, whom the node waits for."""

    async def close(self) -> None:
        """Ends what is being written, and says so."""
        if self._streams is not None:
            await self._streams.close()

    async def AskQuestion(
        self, request: pb.AskQuestionRequest, call: Call
    ) -> pb.AskQuestionResponse:
        """Answers a question."""
        begin_s = time.perf_counter()
        ask = convert.ask_value(request)
        model = request.generation_model or self._default_model
        record = Record(request)
        await self.note_models(request, model, record, call)
        siblings = _Siblings(self._mesh, request, ask, model, call, record)
        context = await gather_context(ask, siblings)
        if context.passages:
            prompt = convert.generate_request(model, ask, context)
            record.contextual(context, prompt.SerializeToString(deterministic=True))
            written = await self._mesh.generation.GenerateText(prompt, call)
        else:
            written = await self._nothing_found(model, call)
        answer = await _answer(ask, model, context, written, begin_s)
        await self.keep_whole(answer, record, call)
        return pb.AskQuestionResponse(answer=answer)

    def StreamAnswer(
        self, request: pb.StreamAnswerRequest, call: Call
    ) -> AsyncGenerator[pb.StreamAnswerResponse, None]:
        """Answers a question as events."""
        record = Record(request)
        model = request.generation_model or self._default_model
        events = self._events(request, call, record)
        if self._kept is None:
            return told(events, call, convert.failed)
        return self.kept_stream(request, record, model, events, call)

    async def _events(
        self, request: pb.StreamAnswerRequest, call: Call, record: Record
    ) -> AsyncGenerator[pb.StreamAnswerResponse, None]:
        begin_s = time.perf_counter()
        ask = convert.ask_value(request)
        model = request.generation_model or self._default_model
        siblings = _Siblings(self._mesh, request, ask, model, call, record)
        context = await gather_context(ask, siblings)
        if not context.passages:
            written = await self._nothing_found(model, call)
            yield convert.started(model, context)
            answer = await _answer(ask, model, context, written, begin_s)
            yield pb.StreamAnswerResponse(finished=answer)
            return
        prompt = convert.stream_request(model, ask, context)
        record.contextual(context, prompt.SerializeToString(deterministic=True))
        stream = self._mesh.generation.StreamGenerateText(prompt, call)
        held = ask.unsupported == "withhold"
        async with aclosing(stream):
            async for event in stream:
                match event.WhichOneof("event"):
                    case "started":
                        yield convert.started(model, context)
                    case "delta" if not held:
                        yield pb.StreamAnswerResponse(delta=event.delta)
                    case "citation" if not held:
                        if verified(context, [convert.citation_value(event.citation)])[0]:
                            yield pb.StreamAnswerResponse(citation=event.citation)
                    case "finished":
                        answer = await _answer(ask, model, context, event.finished, begin_s)
                        if held and answer.text:
                            yield pb.StreamAnswerResponse(delta=TextDelta(text=answer.text))
                            for citation in answer.citations:
                                yield pb.StreamAnswerResponse(citation=citation)
                        yield pb.StreamAnswerResponse(finished=answer)
                        return
                    case "failed":
                        raise from_status(event.failed)
        raise UpstreamFailed(
            f"The stream of {model} was cut before its last event.", metadata={"model": model}
        )

    async def _nothing_found(self, model: str, call: Call) -> generation.GenerateTextResponse:
        """The abstention for want of passages. A model that does not exist is still an error:
        whether a question fails must not depend on what is in the collection."""
        get = self._mesh.method("generation", "GetGenerationModel")
        await get(generation.GetGenerationModelRequest(name=model), call)
        return convert.nothing_found()


class _Siblings:
    """The siblings as the core sees them, for one question."""

    def __init__(
        self,
        mesh: Mesh,
        request: convert.Request,
        ask: Ask,
        model: str,
        call: Call,
        record: Record,
    ) -> None:
        self._record = record
        self._mesh = mesh
        self._request = request
        self._ask = ask
        self._model = model
        self._call = call

    async def search(self, collection: str, query: str) -> Sequence[Found]:
        """Searches a collection."""
        response = await self._mesh.retrieval.SearchCollection(
            convert.search_request(self._request, self._ask, collection, query), self._call
        )
        self._record.searched(collection, response)
        return convert.found_values(response, collection)

    async def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """Counts tokens as the default embedding model does."""
        response = await self._mesh.embedding.CountTokens(convert.count_request(texts), self._call)
        return response.tokens

    async def history(self, session: str, question: str) -> Sequence[Turn]:
        """The turns of a session that the memory service chooses."""
        response = await self._mesh.memory.GetSessionContext(
            convert.history_request(session, question), self._call
        )
        return convert.turns(response)

    async def rewrite(self, question: str, turns: Sequence[Turn]) -> str:
        """Asks the language model; one that fails is not missed, because there are rules."""
        if self._model == EXTRACTIVE_MODEL:
            return ""
        request = generation.GenerateTextRequest(
            model=self._model,
            question=rewriting(question, turns),
            output_tokens_max=REWRITTEN_TOKENS_MAX,
        )
        try:
            written = await self._mesh.generation.GenerateText(request, self._call)
        except (UpstreamFailed, InvalidField):
            return ""
        return written.text.strip() if "\n" not in written.text.strip() else ""

    def remaining_s(self) -> float | None:
        """Until the caller's deadline."""
        return self._call.remaining_s()


async def _answer(
    ask: Ask,
    model: str,
    context: Context,
    written: generation.GenerateTextResponse,
    begin_s: float,
) -> pb.Answer:
    check_s = time.perf_counter()
    citations = [convert.citation_value(c) for c in written.citations]
    grounded = await ground(context, written.text, citations, ask.unsupported)
    done_s = time.perf_counter()
    timings = pb.AnswerTimings(
        search_ms=context.search_ms,
        context_ms=context.context_ms,
        generate_ms=written.generate_ms,
        check_ms=(done_s - check_s) * 1000,
        total_ms=(done_s - begin_s) * 1000,
    )
    return convert.answer(ask, model, context, written, grounded, timings)
