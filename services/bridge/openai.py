"""OpenAI's API over the services: `/v1/openai/chat/completions`, `/embeddings`, `/models`.

For programs that speak it already: they change a URL. An answer whose reader leaves is cancelled,
since these programs do not come back for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from engine.errors import (
    GenerationModelNotFound,
    MalformedMessage,
    MessageTooLarge,
    RagmeshError,
    UpstreamFailed,
)
from services.bridge import answers_convert
from services.bridge import openai_convert as convert
from services.bridge.answers_convert import Told
from services.bridge.events import Room, Stream
from services.bridge.following import Followed
from services.bridge.openai_convert import Completion, Json
from services.mesh.mesh import Mesh
from services.rpc.call import Call, Identity, call_of, request_id_of

_LOG = logging.getLogger(__name__)

UNARY_S = 120.0
"""The longest call that is no stream, as at the gateway."""
_DONE = b"data: [DONE]\n\n"

Handler = Callable[[Request, Call], Awaitable[Response]]


class OpenAI:
    """Answers in OpenAI's shapes."""

    def __init__(self, mesh: Mesh, identity: Identity, room: Room, body_bytes_max: int) -> None:
        self._mesh = mesh
        self._identity = identity
        self._room = room
        self._most = body_bytes_max

    async def completions(self, request: Request) -> Response:
        """`POST /v1/openai/chat/completions`."""
        return await self._answered(request, self._completions)

    async def embeddings(self, request: Request) -> Response:
        """`POST /v1/openai/embeddings`."""
        return await self._answered(request, self._embeddings)

    async def models(self, request: Request) -> Response:
        """`GET /v1/openai/models`."""
        return await self._answered(request, self._models)

    async def model(self, request: Request) -> Response:
        """`GET /v1/openai/models/{model}`."""
        return await self._answered(request, self._model)

    async def _answered(self, request: Request, handler: Handler) -> Response:
        headers = {name: request.headers[name] for name in request.headers}
        request_id = request_id_of(headers)
        try:
            call = call_of(headers, UNARY_S, self._identity)
            response = await handler(request, call)
            response.headers["x-request-id"] = request_id
            return response
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:
            answer, body = convert.error_body(error, request_id)
            if answer.http_status == 500:
                _LOG.exception("a request failed", extra={"request_id": request_id})
            return JSONResponse(body, answer.http_status, answer.headers)

    async def _completions(self, request: Request, call: Call) -> Response:
        asked = convert.completion(await self._body(request))
        if asked.stream:
            return await self._streamed(asked, Call(call.tenant, call.request_id))
        ask = self._mesh.method("chat", "AskQuestion")
        response = await ask(convert.unary(asked.request), call)
        return JSONResponse(convert.completion_body(asked, response.answer))

    async def _streamed(self, asked: Completion, call: Call) -> Response:
        held = contextlib.ExitStack()
        followed = Followed(self._mesh, call)
        try:
            held.enter_context(self._room.taken())
            events = followed.asked(asked.request)
            first = await anext(events)  # what is wrong with the request is an HTTP status
        except BaseException:
            held.close()
            raise
        pieces = self._pieces(asked, first, events, followed, call)
        return Stream(pieces, {}, held.close)

    async def _pieces(
        self,
        asked: Completion,
        first: Told,
        events: AsyncGenerator[Told, None],
        followed: Followed,
        call: Call,
    ) -> AsyncGenerator[bytes, None]:
        over = False
        try:
            yield _data(convert.first_chunk(asked, followed.name))
            event: Told | None = first
            while event is not None:
                over = event.last
                for piece in _chunks(asked, event, followed.name, call.request_id):
                    yield piece
                event = None if over else await anext(events, None)
            if not over:
                raise UpstreamFailed("The answer's stream was cut before its last event.")
        except RagmeshError as error:
            yield _data(convert.error_body(error, call.request_id)[1])
        finally:
            await events.aclose()
            if not over and followed.name:
                with contextlib.suppress(RagmeshError):
                    cancel = self._mesh.method("chat", "CancelAnswer")
                    await cancel(answers_convert.cancel_request(followed.name), call)

    async def _embeddings(self, request: Request, call: Call) -> Response:
        body = await self._body(request)
        response = await self._mesh.embedding.EmbedTexts(convert.embed_request(body), call)
        return JSONResponse(convert.embeddings_body(body, response))

    async def _models(self, request: Request, call: Call) -> Response:
        return JSONResponse(convert.model_list(await self._names(call)))

    async def _model(self, request: Request, call: Call) -> Response:
        name = request.path_params["model"]
        for found in await self._names(call):
            if name in (found, f"generationModels/{found}", f"embeddingModels/{found}"):
                return JSONResponse(convert.model_body(found))
        raise GenerationModelNotFound(
            f"no model {name[:80]!r}; GET /v1/openai/models lists them",
            field="model",
            metadata={"model": name},
        )

    async def _names(self, call: Call) -> list[str]:
        texts, vectors = convert.list_requests()
        written = await self._mesh.method("generation", "ListGenerationModels")(texts, call)
        embedded = await self._mesh.method("embedding", "ListEmbeddingModels")(vectors, call)
        models = (*written.generation_models, *embedded.embedding_models)
        # Without the kind: programs write a slash in a path in a way that the gateway refuses.
        return list(dict.fromkeys(model.name.partition("/")[2] for model in models))

    async def _body(self, request: Request) -> Mapping[str, Any]:
        """The body as JSON. Raises MalformedMessage and MessageTooLarge."""
        data = bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > self._most:
                raise MessageTooLarge(
                    f"The body has over {self._most:,} bytes; send less at once.",
                    metadata={"limit_bytes": self._most},
                )
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(f"The body is no JSON: {error}.") from error
        if not isinstance(body, dict):
            raise MalformedMessage("The body is no JSON object.")
        return body


def _chunks(asked: Completion, event: Told, name: str, request_id: str) -> list[bytes]:
    match event.kind:
        case "delta":
            return [_data(convert.text_chunk(asked, name, event.message.delta.text))]
        case "finished":
            ends = convert.last_chunks(asked, event.message.finished)
            return [*(_data(chunk) for chunk in ends), _DONE]
        case "failed":
            error = convert.stream_error(event.message)
            return [_data(convert.error_body(error, request_id)[1])]
        case "heartbeat":
            return [b": heartbeat\n\n"]
    return []


def _data(chunk: Json) -> bytes:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
