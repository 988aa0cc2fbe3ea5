"""Answers over a WebSocket, `/v1/chat:connect`: asked, followed and cancelled as JSON messages.

    → {"type": "ask", "ref": "1", "request": {"question": "…", "collections": ["collections/c"]}}
    ← {"type": "event", "ref": "1", "event": {"eventId": 1, "started": {"answer": "answers/…"}}}
    → {"type": "follow", "ref": "2", "answer": "answers/…", "afterEventId": 3}
    → {"type": "cancel", "ref": "3", "answer": "answers/…"}
    ← {"type": "answer", "ref": "3", "answer": {…}}
    → {"type": "stop", "ref": "1"}            no more events of this; the answer goes on
    ← {"type": "done", "ref": "1"}            nothing more comes of this
    ← {"type": "error", "ref": "2", "status": {…}}

`ref` is the caller's word for what it asked; one that is in use is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from engine.errors import InvalidField, LimitReached, MalformedMessage, RagmeshError
from services.bridge import answers_convert as convert
from services.bridge.answers_convert import Told
from services.bridge.events import Room
from services.bridge.following import Followed
from services.ending import ended
from services.mesh.mesh import Mesh
from services.rpc.call import Call, Identity, call_of, new_request_id, request_id_of
from services.rpc.chain import is_expected

_LOG = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 1 << 20
"""Of a caller's message: a question has 10,000 characters at most, a filter some kilobytes."""
WORKS_MAX = 16
"""What a connection may have going on at once."""
REF_CHARACTERS_MAX = 64
TRY_LATER = 1013
"""The code with which a connection is closed where there are too many."""


class AnswerSocket:
    """Takes connections, a bounded number at once."""

    def __init__(self, mesh: Mesh, identity: Identity, room: Room) -> None:
        self._mesh = mesh
        self._identity = identity
        self._room = room

    async def connect(self, socket: WebSocket) -> None:
        """One connection, to its end."""
        headers = {name: socket.headers[name] for name in socket.headers}
        try:
            call = call_of(headers, None, self._identity)
            with self._room.taken():
                await socket.accept()
                await _Connection(socket, self._mesh, call).run()
        except RagmeshError as error:
            _LOG.info("a socket was refused: %s", error.message)
            await socket.accept()
            status = convert.status_dict(error, request_id_of(headers))
            await socket.send_text(convert.compact({"type": "error", "ref": "", "status": status}))
            await socket.close(TRY_LATER)
        except (WebSocketDisconnect, ConnectionError):
            pass


class _Connection:
    """One caller, and what goes on for it."""

    def __init__(self, socket: WebSocket, mesh: Mesh, call: Call) -> None:
        self._socket = socket
        self._mesh = mesh
        self._call = call
        self._works: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Takes messages until the caller leaves."""
        try:
            while True:
                await self._take(await self._socket.receive_text())
        except (WebSocketDisconnect, KeyError):  # KeyError: bytes, where text is expected
            pass
        finally:
            if self._works:
                await ended(self._works.values())

    async def _take(self, text: str) -> None:
        ref = ""
        try:
            message = _read(text)
            ref = _text(message, "ref", required=True)
            if len(ref) > REF_CHARACTERS_MAX:
                ref, most = "", REF_CHARACTERS_MAX
                raise InvalidField(f"ref has over {most} characters.", field="ref")
            kind = _text(message, "type", required=True)
            if kind == "stop":
                await self._stop(ref)
            else:
                self._begin(ref, kind, message)
        except RagmeshError as error:
            await self._fail(ref, error, new_request_id())

    def _begin(self, ref: str, kind: str, message: Mapping[str, Any]) -> None:
        if ref in self._works:
            raise InvalidField(f"ref {ref!r} is in use; take another.", field="ref")
        if len(self._works) >= WORKS_MAX:
            raise LimitReached(
                f"{WORKS_MAX} things go on over this connection. Wait until one is done, or open "
                "another connection.",
                metadata={"works_max": WORKS_MAX},
            )
        call = Call(self._call.tenant, new_request_id(), lane=self._call.lane)
        if kind == "ask":
            request = convert.ask_request(message.get("request"))
            work = self._tell(ref, Followed(self._mesh, call).asked(request))
        elif kind == "follow":
            given = message.get("afterEventId", 0)
            after = convert.event_id(str(given), "afterEventId")
            name = _text(message, "answer", required=True)
            work = self._tell(ref, Followed(self._mesh, call).resumed(name, after))
        elif kind == "cancel":
            work = self._cancel(ref, _text(message, "answer", required=True), call)
        else:
            raise InvalidField(
                f"type is {kind[:40]!r}; choose from ask, follow, cancel, stop.", field="type"
            )
        self._works[ref] = asyncio.create_task(self._run(ref, work, call), name=f"socket {ref}")

    async def _stop(self, ref: str) -> None:
        work = self._works.get(ref)
        if work is None:
            raise InvalidField(f"nothing goes on under ref {ref!r}.", field="ref")
        await ended([work])
        await self._say(type="done", ref=ref)

    async def _run(self, ref: str, work: Any, call: Call) -> None:
        try:
            await work
        except (WebSocketDisconnect, ConnectionError):
            pass
        except Exception as error:
            if not is_expected(error):
                _LOG.exception("what a socket asked failed", extra={"request_id": call.request_id})
            await self._fail(ref, error, call.request_id)
        finally:
            self._works.pop(ref, None)

    async def _tell(self, ref: str, events: AsyncGenerator[Told, None]) -> None:
        async with aclosing(events):
            async for event in events:
                await self._say(type="event", ref=ref, event=convert.as_dict(event.message))
        self._works.pop(ref, None)
        await self._say(type="done", ref=ref)

    async def _cancel(self, ref: str, name: str, call: Call) -> None:
        cancel = self._mesh.method("chat", "CancelAnswer")
        response = await cancel(convert.cancel_request(name), call)
        await self._say(type="answer", ref=ref, answer=convert.as_dict(response.answer))

    async def _fail(self, ref: str, error: BaseException, request_id: str) -> None:
        self._works.pop(ref, None)
        await self._say(type="error", ref=ref, status=convert.status_dict(error, request_id))

    async def _say(self, **message: Any) -> None:
        await self._socket.send_text(convert.compact(message))


def _read(text: str) -> Mapping[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"The message is no JSON: {error}.") from error
    if not isinstance(message, dict):
        raise MalformedMessage("The message is no JSON object.")
    return message


def _text(message: Mapping[str, Any], field: str, *, required: bool = False) -> str:
    value = message.get(field, "")
    if not isinstance(value, str) or (required and not value):
        raise InvalidField(f"{field} is missing, or no text.", field=field)
    return value
