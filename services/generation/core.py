"""The models of the configuration, and what it takes to let one write. Plain values in and out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

from engine.errors import GenerationModelNotFound
from services.generation.backend import Backend, Task, Written
from services.rpc.call import Call


class GenerationCore:
    """Backends by id."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = backends

    def ids(self) -> list[str]:
        """The ids of all models, sorted."""
        return sorted(self._backends)

    def backend(self, model_id: str) -> Backend:
        """A model by id. Raises GenerationModelNotFound."""
        backend = self._backends.get(model_id)
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
        """One whole answer. Raises what the backend raises."""
        async with aclosing(self.backend(model_id).write(task, call)) as events:
            async for progress in events:
                if isinstance(progress, Written):
                    return progress
        raise AssertionError("a backend's last word is Written, or an error")

    async def close(self) -> None:
        """Closes all backends."""
        for backend in self._backends.values():
            await backend.close()
