"""A model that runs, and the queue before it."""

from __future__ import annotations

from engine.errors import ModelTaskMismatch
from engine.models.cross_encoder import CrossEncoder
from engine.models.encoder import Encoder
from engine.schedule import Limits
from services.config import ModelSettings
from services.embedding.jobs import AnyJob, AnyResult, run
from services.embedding.loader import Description
from services.mesh.model_queue import ModelQueue


class ServedModel:
    """A model in memory and its queue; make it on the event loop that it is to serve."""

    def __init__(
        self, description: Description, model: Encoder | CrossEncoder, settings: ModelSettings
    ) -> None:
        self.description = description
        self.model = model
        self.queue = ModelQueue[AnyJob, AnyResult](
            description.id,
            lambda jobs: run(model, jobs),
            Limits(
                batch_padded_tokens_max=settings.batch_padded_tokens_max,
                batch_s_max=settings.batch_ms_max / 1000,
            ),
            settings.queue_tokens_max,
            settings.policy,
        )
        self.queue.start()

    @property
    def encoder(self) -> Encoder:
        """The model, for vectors. Raises ModelTaskMismatch for a cross-encoder."""
        if not isinstance(self.model, Encoder):
            raise no_vectors(self.description)
        return self.model

    async def close(self) -> None:
        """Stops the queue; what still waits in it fails with NodeDraining."""
        await self.queue.close()


def no_vectors(description: Description) -> ModelTaskMismatch:
    """The error for asking a cross-encoder for vectors or tokens of one text."""
    return ModelTaskMismatch(
        f"The model {description.id} is a cross-encoder: it reranks and has no vectors. Choose "
        "another for this call.",
        field="model",
        metadata={"model": description.id},
    )
