"""All that is remembered of a subject: recalled, consolidated, erased."""

from __future__ import annotations

from datetime import UTC, datetime

from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from services.memory import indexing
from services.memory.convert import memories as convert
from services.memory.erasing import erase
from services.memory.keeping import Changes, alike
from services.memory.recalling import recall
from services.memory.servicer.base import Handlers
from services.rpc import paging
from services.rpc.call import Call
from services.store import memories
from services.store.store import Tx

BUDGET_DEFAULT = 1_000
MERGED_MAX = 1_000
"""Merges in one call: each is written, with its history, in one transaction."""


class SubjectHandlers(Handlers):
    """Handlers about many memories at once."""

    async def RecallMemories(
        self, request: pb.RecallMemoriesRequest, call: Call
    ) -> pb.RecallMemoriesResponse:
        """Finds what is remembered."""
        asked = convert.recall_value(request, datetime.now(UTC))
        found = await recall(self._store, self._mesh, asked, call)
        return convert.recalled(found)

    async def ConsolidateMemories(
        self, request: pb.ConsolidateMemoriesRequest, call: Call
    ) -> pb.ConsolidateMemoriesResponse:
        """Lets one memory stand for those that say the same."""
        budget = request.budget or BUDGET_DEFAULT
        listing = f"memories/consolidate/{request.subject}"
        after = paging.read_token(listing, request.page_token) or ""
        collection = await indexing.opened(self._store, self._mesh, call)

        async def work(tx: Tx) -> pb.ConsolidateMemoriesResponse:
            changes = await Changes.begin(tx, request.subject)
            rows = await memories.list_memories(
                tx, subject=request.subject, after=after, limit=budget + 1
            )
            looked = rows[:budget]
            found = alike(looked, MERGED_MAX)
            response = pb.ConsolidateMemoriesResponse(
                merges=map(convert.merge_message, found), memories=len(looked)
            )
            if len(rows) > budget:
                response.next_page_token = paging.write_token(listing, looked[-1].id)
            if not request.dry_run:
                await changes.merge(found, {row.id: row for row in looked})
                response.watermark = await changes.finish(collection, {})
            return response

        return await self._store.run(call.tenant, work, timeout_s=call.remaining_s())

    async def EraseSubject(
        self, request: pb.EraseSubjectRequest, call: Call
    ) -> pb.EraseSubjectResponse:
        """Removes every trace of a subject, and looks for it afterwards."""
        receipt = await erase(self._store, self._mesh, request.subject, call)
        return pb.EraseSubjectResponse(receipt=convert.receipt_message(receipt))
