"""The generation service's handlers: check, call, translate, answer."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing

from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.errors import ServiceUnavailable
from services.config import GenerationSettings
from services.generation import convert
from services.generation.assembly import assembled
from services.generation.checks import CHECKS
from services.generation.core import GenerationCore
from services.generation.extractive_backend import ExtractiveBackend
from services.mesh.mesh import Mesh
from services.rpc import paging
from services.rpc.call import Call
from services.rpc.events import told
from services.store import budgets
from services.store.store import Store, Tx

LISTING = "generationModels"
BUDGETS = "budgets"


class GenerationServicer:
    """Serves the extractive model and those of the configuration. Without a store, there are no
    budgets: for nodes whose models cost nothing."""

    checks = CHECKS

    def __init__(
        self,
        settings: GenerationSettings,
        mesh: Mesh,
        threads: Executor,
        store: Store | None = None,
    ) -> None:
        self._settings = settings
        self._mesh = mesh
        self._threads = threads
        self._store = store
        self._made: GenerationCore | None = None

    async def start(self) -> None:
        """Makes the backends. No endpoint is called: one that is down must not keep the others
        from answering. Raises InvalidField for a configuration that names a model twice, a
        fallback that is none or a price file that is broken, and GenerationModelNotFound for a
        default that is not there."""
        extractive = ExtractiveBackend(self._mesh, self._threads)
        core = await assembled(self._settings, extractive, self._threads, self._store)
        core.backend(_model_id(self._settings.default))
        self._made = core

    async def drain(self) -> None:
        """Nothing runs in the background that callers do not wait for."""

    async def close(self) -> None:
        """Settles what is left, and closes the connections to endpoints."""
        if self._made is not None:
            await self._made.close()

    async def GenerateText(
        self, request: pb.GenerateTextRequest, call: Call
    ) -> pb.GenerateTextResponse:
        """Writes one answer."""
        begin_s = time.perf_counter()
        task = convert.task_value(request)
        written = await self._core.write(_model_id(request.model), task, call)
        return convert.response(written, request, (time.perf_counter() - begin_s) * 1000)

    def StreamGenerateText(
        self, request: pb.StreamGenerateTextRequest, call: Call
    ) -> AsyncGenerator[pb.StreamGenerateTextResponse, None]:
        """Writes one answer as events."""
        return told(self._events(request, call), call, convert.failed)

    async def _events(
        self, request: pb.StreamGenerateTextRequest, call: Call
    ) -> AsyncGenerator[pb.StreamGenerateTextResponse, None]:
        begin_s = time.perf_counter()
        task = convert.task_value(request)
        async with aclosing(self._core.events(_model_id(request.model), task, call)) as progresses:
            async for progress in progresses:
                elapsed_ms = (time.perf_counter() - begin_s) * 1000
                yield convert.event(progress, request, elapsed_ms)

    async def ListGenerationModels(
        self, request: pb.ListGenerationModelsRequest, call: Call
    ) -> pb.ListGenerationModelsResponse:
        """Lists models by name."""
        size = paging.page_size(request.page_size)
        after = paging.read_token(LISTING, request.page_token) or ""
        ids = [i for i in self._core.ids() if i > after]
        response = pb.ListGenerationModelsResponse(
            generation_models=[convert.model_message(i, self._core.backend(i)) for i in ids[:size]]
        )
        if len(ids) > size:
            response.next_page_token = paging.write_token(LISTING, ids[size - 1])
        return response

    async def GetGenerationModel(
        self, request: pb.GetGenerationModelRequest, call: Call
    ) -> pb.GetGenerationModelResponse:
        """Returns one model."""
        model_id = _model_id(request.name)
        return pb.GetGenerationModelResponse(
            generation_model=convert.model_message(model_id, self._core.backend(model_id))
        )

    async def EstimateCost(
        self, request: pb.EstimateCostRequest, call: Call
    ) -> pb.EstimateCostResponse:
        """Bounds what an answer may cost."""
        task = convert.task_value(request)
        estimate = await self._core.estimate(_model_id(request.model), task)
        return convert.estimate_response(estimate)

    async def SetBudget(self, request: pb.SetBudgetRequest, call: Call) -> pb.SetBudgetResponse:
        """Makes or changes a budget."""
        asked = request.budget

        async def work(tx: Tx) -> budgets.Budget:
            return await budgets.set_budget(
                tx,
                _budget_id(asked.name),
                asked.session.removeprefix("sessions/"),
                asked.limit_nanos,
                asked.limit_tokens,
                reset=request.reset,
            )

        made = await self._stored().run(call.tenant, work, timeout_s=call.remaining_s())
        return pb.SetBudgetResponse(budget=convert.budget_message(made))

    async def GetBudget(self, request: pb.GetBudgetRequest, call: Call) -> pb.GetBudgetResponse:
        """Returns one budget."""
        async with self._stored().transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            found = await budgets.get_budget(tx, _budget_id(request.name))
        return pb.GetBudgetResponse(budget=convert.budget_message(found))

    async def ListBudgets(
        self, request: pb.ListBudgetsRequest, call: Call
    ) -> pb.ListBudgetsResponse:
        """Lists budgets by name."""
        size = paging.page_size(request.page_size)
        after = paging.read_token(BUDGETS, request.page_token) or ""
        async with self._stored().transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            found = await budgets.list_budgets(tx, after=after, limit=size + 1)
        response = pb.ListBudgetsResponse(budgets=map(convert.budget_message, found[:size]))
        if len(found) > size:
            response.next_page_token = paging.write_token(BUDGETS, found[size - 1].id)
        return response

    async def DeleteBudget(
        self, request: pb.DeleteBudgetRequest, call: Call
    ) -> pb.DeleteBudgetResponse:
        """Takes a budget away."""

        async def work(tx: Tx) -> None:
            await budgets.delete_budget(tx, _budget_id(request.name))

        await self._stored().run(call.tenant, work, timeout_s=call.remaining_s())
        return pb.DeleteBudgetResponse()

    @property
    def _core(self) -> GenerationCore:
        if self._made is None:
            raise ServiceUnavailable("The generation service has not started yet.")
        return self._made

    def _stored(self) -> Store:
        if self._store is None:
            raise ServiceUnavailable(
                "This node has no PostgreSQL, where budgets are. Give it one with --postgres-url."
            )
        return self._store


def _model_id(name: str) -> str:
    return name.removeprefix("generationModels/")


def _budget_id(name: str) -> str:
    return name.removeprefix("budgets/")
