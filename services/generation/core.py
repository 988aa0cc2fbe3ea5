"""The models of the configuration, and what it takes to let one write. Plain values in and out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace

from engine.errors import GenerationModelNotFound, InvalidField, RagmeshError
from engine.spending.estimate import TokenBounds
from services.generation.backend import Backend, Progress, Started, Task, Written
from services.generation.language_backend import LanguageBackend
from services.generation.meter import Meter
from services.generation.relay import Relay
from services.generation.spending import Estimate, Purse, Reservation
from services.rpc.call import Call

SETTLED_S = 5.0
"""How long an answer that is whole waits until it is settled."""


class GenerationCore:
    """Backends by id: those that compute here, and language models behind endpoints."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        languages: Mapping[str, LanguageBackend],
        relay: Relay,
        purse: Purse,
    ) -> None:
        self._backends = backends
        self._languages = languages
        self._relay = relay
        self._purse = purse

    def ids(self) -> list[str]:
        """The ids of all models, sorted."""
        return sorted((*self._backends, *self._languages))

    def backend(self, model_id: str) -> Backend | LanguageBackend:
        """A model by id. Raises GenerationModelNotFound."""
        backend = self._backends.get(model_id) or self._languages.get(model_id)
        if backend is None:
            there = ", ".join(f"generationModels/{i}" for i in self.ids())
            raise GenerationModelNotFound(
                f"No generation model generationModels/{model_id} is configured; there is: "
                f"{there}.",
                field="model",
                metadata={"model": f"generationModels/{model_id}", "models": there},
            )
        return backend

    async def write(self, model_id: str, task: Task, call: Call) -> Written:
        """One whole answer. Raises what `events` raises."""
        async with aclosing(self.events(model_id, task, call)) as events:
            async for progress in events:
                if isinstance(progress, Written):
                    return progress
        raise AssertionError("a backend's last word is Written, or an error")

    async def events(self, model_id: str, task: Task, call: Call) -> AsyncGenerator[Progress, None]:
        """One answer as it is written. Closing it stops the work, at the endpoint too. Raises what
        the backend raises, BudgetExceeded and PriceMissing."""
        backend = self.backend(model_id)
        if isinstance(backend, LanguageBackend):
            progresses = self._spent(model_id, task, call)
        else:
            _check_plain(model_id, task)
            progresses = backend.write(task, call)
        async with aclosing(progresses) as events:
            async for progress in events:
                if isinstance(progress, Started | Written) and not progress.model_id:
                    progress = replace(progress, model_id=model_id)
                yield progress

    async def estimate(self, model_id: str, task: Task) -> Estimate:
        """What an answer may cost. Raises GenerationModelNotFound."""
        if isinstance(self.backend(model_id), LanguageBackend):
            return await self._purse.estimate(task, self._relay.order(model_id))
        return Estimate(TokenBounds(0, 0), 0, 0, 0, "", "")

    async def close(self) -> None:
        """Closes all backends, once what was used is settled."""
        await self._purse.close()
        for backend in self._backends.values():
            await backend.close()
        for language in self._languages.values():
            await language.close()

    async def _spent(self, model_id: str, task: Task, call: Call) -> AsyncGenerator[Progress, None]:
        """A language model's answer, reserved before and settled after, whatever comes between."""
        order = self._relay.order(model_id)
        held = await self._purse.reserve(task, order, call, self._relay.longest_s(model_id))
        meter, settled = Meter(held.granted), False
        wanted = max(backend.output_tokens_max(task) for backend in order)
        short = held.granted is not None and held.granted < wanted
        if short:
            task = replace(task, output_tokens_max=held.granted)
        try:
            async with aclosing(self._relay.write(model_id, task, call, meter)) as progresses:
                async for progress in progresses:
                    if isinstance(progress, Written):
                        if short and progress.finish == "length":
                            progress = replace(progress, finish="budget")
                        progress = self._accounted(progress, meter, held)
                        settled = True
                        await self._settle(held, meter, model_id)
                    yield progress
        finally:
            if not settled:
                self._purse.settle(held, meter, self._languages[meter.model_id or model_id])

    async def _settle(self, held: Reservation, meter: Meter, model_id: str) -> None:
        """Waits until it is done, so that whoever got the answer sees it in the budget."""
        settling = self._purse.settle(held, meter, self._languages[meter.model_id or model_id])
        if settling is not None:
            with contextlib.suppress(RagmeshError):
                await asyncio.wait([settling], timeout=SETTLED_S)

    def _accounted(self, written: Written, meter: Meter, held: Reservation) -> Written:
        usage, backend = meter.usage(), self._languages[meter.model_id]
        return replace(
            written,
            model_id=meter.model_id,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            estimated=usage.estimated,
            cost=self._purse.cost(held, usage, backend),
        )


def _check_plain(model_id: str, task: Task) -> None:
    """Raises InvalidField for a wish that only language models know."""
    for field, wish in (("tools", task.tools), ("output_schema", task.output_schema)):
        if wish:
            raise InvalidField(
                f"{field} needs a language model, and generationModels/{model_id} is none. Leave "
                "it out, or choose a model with an endpoint.",
                field=field,
                metadata={"model": f"generationModels/{model_id}"},
            )
