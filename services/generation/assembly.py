"""The backends of the configuration, put together."""

from __future__ import annotations

from concurrent.futures import Executor

from engine.breaker import BreakerPolicy
from engine.errors import InvalidField
from services.config_generation import AnthropicModel, GenerationSettings, OpenAIModel
from services.generation.backend import Backend
from services.generation.core import GenerationCore
from services.generation.language_backend import LanguageBackend
from services.generation.price_file import PriceFile
from services.generation.providers.anthropic import AnthropicProvider
from services.generation.providers.openai import OpenAIProvider
from services.generation.relay import Relay
from services.generation.spending import Purse
from services.rpc import names
from services.store.store import Store

EXTRACTIVE = "extractive"


async def assembled(
    settings: GenerationSettings, extractive: Backend, threads: Executor, store: Store | None
) -> GenerationCore:
    """The models by their ids, and what their answers may cost. Raises InvalidField for an id that
    is none or stands there twice, an unknown fallback, and a price file that is broken."""
    languages: dict[str, LanguageBackend] = {}
    for model in settings.language_models:
        field = f"generation.{'openai' if isinstance(model, OpenAIModel) else 'anthropic'}"
        names.check_id(model.id, f"{field}.id")
        if model.id in (EXTRACTIVE, *languages):
            raise InvalidField(
                f"The configuration has more than one generation model {model.id!r}.",
                field=f"{field}.id",
                metadata={"model": model.id},
            )
        languages[model.id] = LanguageBackend(_provider(model), model, threads)
    for model in settings.language_models:
        for fallback in model.fallbacks:
            if fallback not in languages or fallback == model.id:
                there = ", ".join(sorted(languages.keys() - {model.id})) or "no other"
                raise InvalidField(
                    f"The fallback {fallback!r} of generation model {model.id!r} is no other model "
                    f"with an endpoint; there is: {there}.",
                    field="generation.fallbacks",
                    metadata={"model": model.id, "fallback": fallback},
                )
    prices = PriceFile(settings.prices)
    await prices.open()
    policy = BreakerPolicy(settings.breaker_failures_max, settings.breaker_open_s)
    purse = Purse(store, prices)
    return GenerationCore({EXTRACTIVE: extractive}, languages, Relay(languages, policy), purse)


def _provider(model: OpenAIModel | AnthropicModel) -> OpenAIProvider | AnthropicProvider:
    if isinstance(model, AnthropicModel):
        return AnthropicProvider(model)
    return OpenAIProvider(model)
