"""Handlers of searches: check, call, translate, answer."""

from __future__ import annotations

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from services.retrieval.search import answering, asking, parents
from services.retrieval.search.running import Answered
from services.retrieval.servicer.base import Handlers
from services.retrieval.stale import renewed
from services.rpc import fields
from services.rpc.call import Call


class SearchHandlers(Handlers):
    """Finds points."""

    @renewed("collection")
    async def SearchCollection(
        self, request: pb.SearchCollectionRequest, call: Call
    ) -> pb.SearchCollectionResponse:
        """Finds points."""
        collection = await self._collection(request.collection, call)
        least = fields.watermark(request.min_watermark or call.min_watermark)
        asked = asking.search_value(request, asking.beams_value(tuple(collection.beams)))
        self._limiter.searches(collection, [asked])
        response = pb.SearchCollectionResponse()

        def use(answered: Answered) -> None:
            answering.fill(response, answered, collection.id, request)

        await self._searcher.search(collection, asked, least, call, use)
        await parents.add(self._store, collection, [(request, response)], call)
        return response

    @renewed("collection")
    async def BatchSearchCollection(
        self, request: pb.BatchSearchCollectionRequest, call: Call
    ) -> pb.BatchSearchCollectionResponse:
        """Finds points for several searches."""
        collection = await self._collection(request.collection, call)
        least = fields.watermark(request.min_watermark or call.min_watermark)
        response = pb.BatchSearchCollectionResponse()
        messages = [response.responses.add() for _ in request.searches]
        searches, beams = [], asking.beams_value(tuple(collection.beams))
        for index, one in enumerate(request.searches):
            with asking.located(f"searches[{index}]"):
                searches.append(asking.search_value(one, beams))
        self._limiter.searches(collection, searches)

        def use(index: int, answered: Answered) -> int:
            answering.fill(messages[index], answered, collection.id, request.searches[index])
            return answered.watermark

        marks = await self._searcher.batch(collection, searches, least, call, use)
        response.watermark = str(marks[0])
        both = list(zip(request.searches, messages, strict=True))
        await parents.add(self._store, collection, both, call)
        return response
