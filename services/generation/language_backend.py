"""A language model behind an endpoint: from a task to prompts, from pieces to a checked answer.

Answers are always streamed from the endpoint, so that a caller who goes away closes the request
there too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, replace

from engine.answers.cite_markers import read_markers
from engine.errors import DeadlineExceeded, OutputInvalid
from services.config_generation import LanguageModel
from services.generation import prompt as prompts
from services.generation.backend import Delta, Kind, Progress, Started, Task, Written
from services.generation.meter import Meter
from services.generation.providers.pieces import (
    EndpointFailed,
    Piece,
    Prompt,
    Provider,
    Said,
    Thinking,
    Used,
)
from services.generation.reading import Reading
from services.generation.structured import OutputFault, fitting
from services.rpc.call import Call

_PROTOCOLS: dict[Kind, str] = {"openai": "OpenAI", "anthropic": "Anthropic"}


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Until when an answer may take, on the loop's clock, and for whom."""

    end_s: float
    call: Call


class LanguageBackend:
    """One model of the configuration."""

    def __init__(self, provider: Provider, model: LanguageModel, threads: Executor) -> None:
        self._provider = provider
        self._threads = threads
        self.model = model
        self.kind: Kind = provider.kind
        self.upstream_model = model.model
        self.fallbacks = model.fallbacks
        self.display_name = f"{model.model} ({_PROTOCOLS[provider.kind]} protocol)"

    async def close(self) -> None:
        """Closes connections."""
        await self._provider.close()

    def output_tokens_max(self, task: Task) -> int:
        """The most tokens that an answer may have."""
        return task.output_tokens_max or self.model.output_tokens_max

    def prompt(self, task: Task, request_id: str = "") -> Prompt:
        """What is sent for a task."""
        with_schema = bool(task.output_schema) and self._provider.instructs_schema
        return Prompt(
            messages=prompts.messages(task, prompts.new_nonce(task), with_schema=with_schema),
            output_tokens_max=self.output_tokens_max(task),
            temperature=task.temperature,
            tools=task.tools,
            tool_choice=task.tool_choice,
            schema=json.loads(task.output_schema) if task.output_schema else None,
            stop_sequences=task.stop_sequences,
            seed=task.seed,
            request_id=request_id,
        )

    async def write(self, task: Task, call: Call, meter: Meter) -> AsyncGenerator[Progress, None]:
        """Streams an answer; its citations come at the end, when they can be checked, and the text
        of a structured answer when it fits. Started comes with the first piece of the answer."""
        bounds = _Bounds(asyncio.get_running_loop().time() + self.model.timeout_s, call)
        prompt = self.prompt(task, call.request_id)
        reading = Reading(task, holds=prompt.schema is not None)
        begun = False
        async with aclosing(self._read(prompt, reading, meter, bounds)) as progresses:
            async for progress in progresses:
                if not begun:
                    begun = True
                    yield Started(self.model.id)
                if progress is not None:
                    yield progress
        if prompt.schema is not None and not reading.tool_calls:
            async for progress in self._structured(prompt, reading, meter, bounds):
                yield progress
            return
        marked = await asyncio.get_running_loop().run_in_executor(
            self._threads, read_markers, reading.text, task.passages
        )
        for progress in reading.ending(marked.citations):
            yield progress

    async def _structured(
        self, prompt: Prompt, reading: Reading, meter: Meter, bounds: _Bounds
    ) -> AsyncGenerator[Progress, None]:
        """The JSON of an answer, repaired once. Raises OutputInvalid."""
        try:
            text = await self._fitting(reading, prompt)
        except OutputFault as fault:
            if meter.left == 0 or reading.finish in ("budget", "filtered"):
                raise self._invalid(fault, reading) from fault
            again = replace(
                prompt,
                messages=prompts.repair(prompt.messages, reading.text, str(fault)),
                tools=(),
                output_tokens_max=min(
                    prompt.output_tokens_max, meter.left or prompt.output_tokens_max
                ),
            )
            reading = Reading(reading.task, holds=True)
            async with aclosing(self._read(again, reading, meter, bounds)) as progresses:
                async for _ in progresses:
                    pass
            try:
                text = await self._fitting(reading, prompt)
            except OutputFault as second:
                raise self._invalid(second, reading) from second
        yield Delta(text)
        yield Written(text, finish=reading.finish)

    async def _fitting(self, reading: Reading, prompt: Prompt) -> str:
        assert prompt.schema is not None
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, fitting, reading.text, prompt.schema
        )

    async def _read(
        self, prompt: Prompt, reading: Reading, meter: Meter, bounds: _Bounds
    ) -> AsyncGenerator[Progress | None, None]:
        """One request. What may be shown; None for a sign of life. Raises EndpointFailed and
        DeadlineExceeded."""
        size = sum(len(text.encode(errors="replace")) for text in prompt.texts())
        meter.begin(self.model.id, size)
        begun = False
        try:
            async with aclosing(self._provider.stream(prompt)) as pieces:
                while not reading.closed:
                    limit_s = self.model.idle_s if begun else self.model.first_token_s
                    try:
                        piece = await self._in_time(pieces, limit_s, bounds, begun)
                    except StopAsyncIteration:
                        break
                    meter.take(piece)
                    if isinstance(piece, Used):
                        continue
                    if not begun:
                        begun = True
                        yield None
                    if meter.overdrawn and isinstance(piece, Said | Thinking):
                        reading.cut("budget")
                        break
                    for progress in reading.take(piece):
                        yield progress
        except EndpointFailed:
            if not begun:
                meter.drop()
            raise

    async def _in_time(
        self, pieces: AsyncGenerator[Piece, None], limit_s: float, bounds: _Bounds, begun: bool
    ) -> Piece:
        """The next piece. Raises StopAsyncIteration at the end, DeadlineExceeded where the caller's
        time is over first, EndpointFailed where the endpoint's is."""
        left_s = min(limit_s, bounds.end_s - asyncio.get_running_loop().time())
        remaining_s = bounds.call.remaining_s()
        by_caller = remaining_s is not None and remaining_s <= left_s
        try:
            async with asyncio.timeout(remaining_s if by_caller else left_s):
                return await anext(pieces)
        except TimeoutError as error:
            if by_caller:
                raise DeadlineExceeded(
                    "The deadline passed while the generation model wrote."
                ) from error
            raise self._late(begun, left_s < limit_s) from error

    def _late(self, begun: bool, by_whole: bool) -> EndpointFailed:
        name, model = f"generationModels/{self.model.id}", self.model
        if by_whole:
            what, limit_s = "did not finish within", model.timeout_s
        elif begun:
            what, limit_s = "said nothing more for", model.idle_s
        else:
            what, limit_s = "said nothing within", model.first_token_s
        return EndpointFailed(
            f"The endpoint of {name} {what} {limit_s:g} s.",
            metadata={"model": name, "timeout_s": limit_s},
        )

    def _invalid(self, fault: OutputFault, reading: Reading) -> OutputInvalid:
        name = f"generationModels/{self.model.id}"
        cut = " It was cut at its most tokens." if reading.finish in ("length", "budget") else ""
        return OutputInvalid(
            f"What {name} wrote does not fit output_schema: {fault}.{cut} Make the schema simpler, "
            "or give more tokens, or ask another model.",
            metadata={"model": name, "finish": reading.finish},
        )
