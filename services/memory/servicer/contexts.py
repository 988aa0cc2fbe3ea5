"""What of a session is read before a question is answered."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from services.memory.asking import MeshSiblings
from services.memory.convert import contexts as convert
from services.memory.convert.sessions import session_id
from services.memory.servicer.base import Handlers
from services.memory.window import BYTES_MAX, MESSAGES_MAX
from services.rpc.call import Call
from services.store import messages, sessions, summaries
from services.store.messages import Message
from services.store.sessions import Session
from services.store.store import Store
from services.store.summaries import Summary


class ContextHandlers(Handlers):
    """Handlers about what is read of sessions."""

    async def GetSessionContext(
        self, request: pb.GetSessionContextRequest, call: Call
    ) -> pb.GetSessionContextResponse:
        """Chooses messages within a budget."""
        begin_s = time.perf_counter()
        session, branch = await self._branch(request, call)
        model = request.generation_model or self._generation_model
        context = await self._history.choose(
            convert.wanted_value(request),
            session,
            branch,
            convert.USER,
            MeshSiblings(self._mesh, call, model),
            _Summaries(self._store, session, model, call),
        )
        return convert.context_message(context, (time.perf_counter() - begin_s) * 1000)

    async def _branch(
        self, request: pb.GetSessionContextRequest, call: Call
    ) -> tuple[Session, Sequence[Message]]:
        """The session, and the newest messages of the branch in its order: from Redis where they
        are there."""
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            session = await sessions.get_session(tx, session_id(request.name))
        leaf_index = session.messages
        if request.HasField("leaf_index"):
            leaf_index = request.leaf_index
        if not 0 <= leaf_index <= session.messages:
            raise messages.message_not_found(session, leaf_index, "leaf_index")
        if not leaf_index:
            return session, ()
        kept = await self._windows.read(session, leaf_index)
        if kept is not None:
            return session, kept
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            leaf = await messages.get_place(tx, session, leaf_index, "leaf_index")
            page = await messages.list_branch(
                tx, session, leaf, limit=MESSAGES_MAX, newest_first=True, bytes_max=BYTES_MAX
            )
        branch = page.messages[::-1]
        if leaf_index == session.messages:
            await self._windows.write(session, branch)
        return session, branch


class _Summaries:
    """The summaries of a session and model, as `SessionHistory` sees them."""

    def __init__(self, store: Store, session: Session, model: str, call: Call) -> None:
        self._store = store
        self._session = session
        self._model = model
        self._call = call

    async def find(self, indexes: Sequence[int]) -> Summary | None:
        """The one that covers most of a branch."""
        remaining_s = self._call.remaining_s()
        async with self._store.transaction(self._call.tenant, timeout_s=remaining_s) as tx:
            return await summaries.find_summary(tx, self._session, self._model, indexes)

    async def keep(self, summary: Summary) -> None:
        """Keeps one more."""
        remaining_s = self._call.remaining_s()
        async with self._store.transaction(self._call.tenant, timeout_s=remaining_s) as tx:
            await summaries.keep_summary(tx, self._session, self._model, summary)
