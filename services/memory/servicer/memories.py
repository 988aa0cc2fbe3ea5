"""Memories: made, shown, changed, deleted, and what was done to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

from google.protobuf.message import Message
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from engine.memory.extract import extract
from engine.memory.kinds import Kind
from services.memory import indexing, siblings
from services.memory.convert import memories as convert
from services.memory.keeping import Changes, Said, former_state, memories_of
from services.memory.servicer.base import Handlers
from services.memory.siblings import Embedded
from services.rpc import names, paging
from services.rpc.call import Call
from services.store import memories
from services.store.collections import Collection
from services.store.memories import Memory
from services.store.once import once
from services.store.store import Tx

Response = TypeVar("Response", bound=Message)
Named = TypeVar("Named", pb.CreateMemoryResponse, pb.UpdateMemoryResponse, pb.UndoMemoryResponse)
Repeatable: TypeAlias = (
    pb.CreateMemoryRequest | pb.RememberTurnsRequest | pb.UpdateMemoryRequest | pb.UndoMemoryRequest
)


class MemoryHandlers(Handlers):
    """Handlers about single memories. What is kept for repeated requests are names, so that nothing
    of a memory that is erased is left there."""

    async def CreateMemory(
        self, request: pb.CreateMemoryRequest, call: Call
    ) -> pb.CreateMemoryResponse:
        """Remembers something."""
        collection = await indexing.opened(self._store, self._mesh, call)
        memory_id = request.memory_id or names.new_id()
        asked = convert.new_memory(request.memory, memory_id, datetime.now(UTC))
        embedded = await self._embedded(collection, [asked], call)

        async def work(tx: Tx) -> pb.CreateMemoryResponse:
            changes = await Changes.begin(tx, asked.subject)
            await changes.add(replace(asked, create_time=changes.now, update_time=changes.now))
            watermark = await changes.finish(collection, embedded)
            return pb.CreateMemoryResponse(
                memory=convert.named(changes.known or changes.made)[0],
                known=bool(changes.known),
                closed=map(convert.memory_name, changes.closed),
                watermark=watermark,
            )

        response = await self._once(request, pb.CreateMemoryResponse, work, call)
        return await self._filled(response, call)

    async def RememberTurns(
        self, request: pb.RememberTurnsRequest, call: Call
    ) -> pb.RememberTurnsResponse:
        """Remembers what was said."""
        collection = await indexing.opened(self._store, self._mesh, call)
        asked = await self._of_turns(request, call)
        embedded = await self._embedded(collection, asked, call)

        async def work(tx: Tx) -> pb.RememberTurnsResponse:
            changes = await Changes.begin(tx, request.subject)
            for memory in asked:
                await changes.add(memory)
            watermark = await changes.finish(collection, embedded)
            return pb.RememberTurnsResponse(
                memories=convert.named(changes.made),
                known=len(changes.known),
                closed=map(convert.memory_name, dict.fromkeys(changes.closed)),
                watermark=watermark,
            )

        response = await self._once(request, pb.RememberTurnsResponse, work, call)
        found = await self._read([one.name for one in response.memories], call)
        del response.memories[:]
        response.memories.extend(convert.memory_message(row) for row in found)
        return response

    async def GetMemory(self, request: pb.GetMemoryRequest, call: Call) -> pb.GetMemoryResponse:
        """Returns one memory."""
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            row = await memories.get_memory(tx, convert.memory_id(request.name))
        return pb.GetMemoryResponse(memory=convert.memory_message(row))

    async def ListMemories(
        self, request: pb.ListMemoriesRequest, call: Call
    ) -> pb.ListMemoriesResponse:
        """Lists memories by name."""
        size = paging.page_size(request.page_size)
        kind = convert.KINDS.get(request.kind, "")
        listing = f"memories/{request.subject}/{kind}"
        after = paging.read_token(listing, request.page_token) or ""
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            found = await memories.list_memories(
                tx, subject=request.subject, kind=kind, after=after, limit=size + 1
            )
        response = pb.ListMemoriesResponse(
            memories=[convert.memory_message(row) for row in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = paging.write_token(listing, found[size - 1].id)
        return response

    async def UpdateMemory(
        self, request: pb.UpdateMemoryRequest, call: Call
    ) -> pb.UpdateMemoryResponse:
        """Changes what is set."""
        memory_id = convert.memory_id(request.name)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            seen = await memories.get_memory(tx, memory_id)
        collection = await indexing.opened(self._store, self._mesh, call)
        embedded = {}
        if request.HasField("text"):
            convert.check_text(seen, request.text)
            changed = replace(seen, text=request.text)
            embedded = await self._embedded(collection, [changed], call)

        async def work(tx: Tx) -> pb.UpdateMemoryResponse:
            changes = await Changes.begin(tx, seen.subject)
            row = await memories.get_memory(tx, memory_id)
            required = row.kind == Kind.BLOCK
            memories.require_version(row, request.version, required=required)
            await changes.update(convert.updated(row, request))
            watermark = await changes.finish(collection, embedded)
            return pb.UpdateMemoryResponse(memory=convert.named([row])[0], watermark=watermark)

        response = await self._once(request, pb.UpdateMemoryResponse, work, call)
        return await self._filled(response, call)

    async def DeleteMemory(
        self, request: pb.DeleteMemoryRequest, call: Call
    ) -> pb.DeleteMemoryResponse:
        """Deletes a memory; its history stays."""
        memory_id = convert.memory_id(request.name)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            seen = await memories.get_memory(tx, memory_id)
        collection = await indexing.opened(self._store, self._mesh, call)

        async def work(tx: Tx) -> str:
            changes = await Changes.begin(tx, seen.subject)
            await changes.delete(await memories.get_memory(tx, memory_id))
            return await changes.finish(collection, {})

        watermark = await self._store.run(call.tenant, work, timeout_s=call.remaining_s())
        return pb.DeleteMemoryResponse(watermark=watermark)

    async def GetMemoryHistory(
        self, request: pb.GetMemoryHistoryRequest, call: Call
    ) -> pb.GetMemoryHistoryResponse:
        """Lists the changes of a memory, the newest first."""
        size = paging.page_size(request.page_size)
        memory_id = convert.memory_id(request.name)
        listing = f"memories/{memory_id}/history"
        token = paging.read_token(listing, request.page_token)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            found = await memories.history(
                tx, memory_id, before=int(token) if token else None, limit=size + 1
            )
        if not found and not token:
            raise memories.memory_not_found(memory_id)
        response = pb.GetMemoryHistoryResponse(
            events=[convert.event_message(event) for event in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1].version
            response.next_page_token = paging.write_token(listing, str(last))
        return response

    async def UndoMemory(self, request: pb.UndoMemoryRequest, call: Call) -> pb.UndoMemoryResponse:
        """Makes a memory what it was."""
        memory_id = convert.memory_id(request.name)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            seen = await _changes_of(tx, memory_id, request.version)
        former = former_state(seen, memory_id, request.version)
        collection = await indexing.opened(self._store, self._mesh, call)
        # Embedded anew, because what was deleted or merged has no point that a vector is in.
        embedded = await self._embedded(collection, [former] if former else [], call)

        async def work(tx: Tx) -> pb.UndoMemoryResponse:
            changes = await Changes.begin(tx, seen[0].subject)
            last = (await memories.history(tx, memory_id, limit=1))[0]
            if request.version == 0 and last.version != seen[0].version:
                raise memories.changed(memory_id, last.version, seen[0].version)
            row = await changes.undo(last, former)
            watermark = await changes.finish(collection, embedded)
            response = pb.UndoMemoryResponse(watermark=watermark)
            if row is not None:
                response.memory.CopyFrom(convert.named([row])[0])
            return response

        response = await self._once(request, pb.UndoMemoryResponse, work, call)
        return await self._filled(response, call)

    async def _of_turns(self, request: pb.RememberTurnsRequest, call: Call) -> Sequence[Memory]:
        """The memories to make of a request's turns. What a turn was said to is the one before it,
        in the request or in the session, where the caller does not say it."""
        session, now = request.session.removeprefix("sessions/"), datetime.now(UTC)
        before = ""
        if session:
            async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
                before = await memories.last_said(tx, request.subject, session)
        rows: list[Memory] = []
        for turn in request.turns:
            value = convert.turn_value(turn, now)
            said = Said(
                subject=request.subject,
                session=session,
                place=turn.message_index,
                speaker=turn.speaker,
                text=turn.text,
                context=turn.said_to or before,
                said_at=value.said_at,
                found=extract(value),
            )
            rows += memories_of(said, now, facts_only=request.facts_only)
            before = f"{turn.speaker}: {turn.text}" if turn.speaker else turn.text
        return rows

    async def _embedded(
        self, collection: Collection, rows: Sequence[Memory], call: Call
    ) -> dict[str, Embedded]:
        """Vectors of what memories are found by, by their ids."""
        found = {row.id: text for row in rows if (text := indexing.indexed_text(row))}
        made = await siblings.embed(self._mesh, collection, list(found.values()), call)
        return dict(zip(found, made, strict=True))

    async def _filled(self, response: Named, call: Call) -> Named:
        """The response with the memory that it names, as it is now; one that is gone by now stays a
        name."""
        name = response.memory.name
        rows = await self._read([name] if name else [], call)
        if rows:
            response.memory.CopyFrom(convert.memory_message(rows[0]))
        return response

    async def _read(self, wanted: Sequence[str], call: Call) -> list[Memory]:
        """The memories of these names that there are, in this order."""
        ids = [convert.memory_id(name) for name in wanted]
        if not ids:
            return []
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            found = {row.id: row for row in await memories.memories_of(tx, ids)}
        return [found[one] for one in ids if one in found]

    async def _once(
        self, request: Repeatable, kind: type[Response], work: indexing.Work[Response], call: Call
    ) -> Response:
        return await once(
            self._store,
            call.tenant,
            request.request_id,
            request,
            kind,
            work,
            timeout_s=call.remaining_s(),
        )


async def _changes_of(tx: Tx, memory_id: str, version: int) -> list[memories.MemoryEvent]:
    """The last two changes of a memory, and the one at `version` if that is given."""
    found = await memories.history(tx, memory_id, limit=2)
    if version and all(event.version != version for event in found):
        found += await memories.history(tx, memory_id, before=version + 1, limit=1)
    return found
