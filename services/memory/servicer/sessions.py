"""Sessions and their messages: made, shown, listed, appended to, deleted."""

from __future__ import annotations

from datetime import datetime

from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from engine.errors import SessionNotFound
from services.memory.convert import sessions as convert
from services.memory.servicer.base import Handlers
from services.rpc import names, paging
from services.rpc.call import Call
from services.store import messages, sessions
from services.store.messages import Message, Page
from services.store.once import once
from services.store.sessions import Session
from services.store.store import Tx


class SessionHandlers(Handlers):
    """Handlers about sessions."""

    async def CreateSession(
        self, request: pb.CreateSessionRequest, call: Call
    ) -> pb.CreateSessionResponse:
        """Makes an empty session. What is kept for repetitions is its name alone, so that nothing
        of a deleted session is left there."""
        session_id = request.session_id or names.new_id()
        made: list[Session] = []

        async def work(tx: Tx) -> pb.CreateSessionResponse:
            given = convert.session_values(request.session)
            made[:] = [await sessions.create_session(tx, session_id, **given)]
            return convert.created(session_id)

        response = await once(
            self._store,
            call.tenant,
            request.request_id,
            request,
            pb.CreateSessionResponse,
            work,
            timeout_s=call.remaining_s(),
        )
        if not made:
            try:
                made.append(await self._session(response.session.name, call))
            except SessionNotFound:
                return response
        return pb.CreateSessionResponse(session=convert.session_message(made[0]))

    async def GetSession(self, request: pb.GetSessionRequest, call: Call) -> pb.GetSessionResponse:
        """Returns one session."""
        row = await self._session(request.name, call)
        return pb.GetSessionResponse(session=convert.session_message(row))

    async def ListSessions(
        self, request: pb.ListSessionsRequest, call: Call
    ) -> pb.ListSessionsResponse:
        """Lists sessions, the newest first."""
        size = paging.page_size(request.page_size)
        listing = f"sessions/{request.subject}"
        token = paging.read_token(listing, request.page_token)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            found = await sessions.list_sessions(
                tx, subject=request.subject, before=_read_key(token), limit=size + 1
            )
        response = pb.ListSessionsResponse(
            sessions=[convert.session_message(row) for row in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1]
            key = f"{last.create_time.isoformat()} {last.id}"
            response.next_page_token = paging.write_token(listing, key)
        return response

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, call: Call
    ) -> pb.DeleteSessionResponse:
        """Deletes a session with all that belongs to it."""
        session_id = convert.session_id(request.name)

        async def work(tx: Tx) -> Session:
            return await sessions.delete_session(tx, session_id)

        row = await self._store.run(call.tenant, work, timeout_s=call.remaining_s())
        await self._windows.forget(row)
        return pb.DeleteSessionResponse(messages=row.messages)

    async def AppendMessages(
        self, request: pb.AppendMessagesRequest, call: Call
    ) -> pb.AppendMessagesResponse:
        """Appends messages; they are durable when it returns."""
        session_id = convert.session_id(request.session, "session")
        given = [convert.new_message(message) for message in request.messages]
        parent = request.parent_index if request.HasField("parent_index") else None

        done: list[tuple[Session, list[Message]]] = []

        async def work(tx: Tx) -> pb.AppendMessagesResponse:
            done[:] = [await messages.append_messages(tx, session_id, given, parent)]
            _, appended = done[0]
            return pb.AppendMessagesResponse(message_indexes=[one.index for one in appended])

        response = await once(
            self._store,
            call.tenant,
            request.request_id,
            request,
            pb.AppendMessagesResponse,
            work,
            timeout_s=call.remaining_s(),
        )
        for session, appended in done:
            await self._windows.extend(session, appended)
        return response

    async def ListMessages(
        self, request: pb.ListMessagesRequest, call: Call
    ) -> pb.ListMessagesResponse:
        """Lists all messages, a branch, or what follows a message."""
        size = paging.page_size(request.page_size)
        session_id = convert.session_id(request.session, "session")
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            session = await sessions.get_session(tx, session_id)
            part = request.WhichOneof("part") or "all"
            which = getattr(request, part) if part != "all" else 0
            listing = f"messages/{session.uid}/{part}/{which}/{request.newest_first}"
            after = int(paging.read_token(listing, request.page_token) or 0)
            page = await self._page(tx, session, request, after, size)
        response = pb.ListMessagesResponse(
            messages=[convert.message_message(row) for row in page.messages]
        )
        if page.more:
            last = page.messages[-1]
            key = last.depth if part == "leaf_index" else last.index
            response.next_page_token = paging.write_token(listing, str(key))
        return response

    async def _page(
        self, tx: Tx, session: Session, request: pb.ListMessagesRequest, after: int, size: int
    ) -> Page:
        newest_first = request.newest_first
        if request.HasField("leaf_index"):
            leaf = await messages.get_place(tx, session, request.leaf_index, "leaf_index")
            return await messages.list_branch(
                tx, session, leaf, after=after, limit=size, newest_first=newest_first
            )
        if request.HasField("parent_index"):
            parent = request.parent_index
            if parent:
                await messages.get_place(tx, session, parent, "parent_index")
            return await messages.list_children(
                tx, session, parent, after=after, limit=size, newest_first=newest_first
            )
        return await messages.list_all(
            tx, session, after=after, limit=size, newest_first=newest_first
        )

    async def _session(self, name: str, call: Call) -> Session:
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            return await sessions.get_session(tx, convert.session_id(name))


def _read_key(token: str | None) -> tuple[datetime, str] | None:
    if token is None:
        return None
    time, _, session_id = token.partition(" ")
    return datetime.fromisoformat(time), session_id
