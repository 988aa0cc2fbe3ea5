"""The Anthropic messages protocol."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from services.config_generation import AnthropicModel
from services.generation.backend import ChatMessage, ToolCall
from services.generation.providers.endpoint import Endpoint
from services.generation.providers.pieces import (
    ANSWER_CHARACTERS_MAX,
    TOOL_CALLS_MAX,
    Piece,
    Prompt,
    Said,
    Stopped,
    Thinking,
    Used,
)

TEMPERATURE_MAX = 1.0
"""The protocol's; higher ones are taken for it."""

_FINISHES: Mapping[str, Literal["stop", "length", "tool_calls", "filtered"]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "filtered",
}


class AnthropicProvider:
    """One model of the configuration."""

    kind: Literal["anthropic"] = "anthropic"
    instructs_schema = True

    def __init__(self, model: AnthropicModel) -> None:
        self._model = model
        headers = {"anthropic-version": model.version}
        key = model.api_key.get_secret_value()
        if key:
            headers["x-api-key"] = key
        self._endpoint = Endpoint(model.id, model.url, headers, model.concurrency_max)

    async def close(self) -> None:
        """Closes connections."""
        await self._endpoint.close()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """The pieces of one answer. The protocol has no seed."""
        reading = _Reading()
        async with aclosing(
            self._endpoint.events("/messages", self._body(prompt), prompt.request_id)
        ) as events:
            async for event in events:
                if event.get("type") == "error":
                    raise self._endpoint.failed("reported an error in place of an answer")
                try:
                    pieces = list(reading.take(event))
                except (AttributeError, TypeError, KeyError, ValueError) as error:
                    raise self._endpoint.failed(
                        "sent an event that is no part of a message"
                    ) from error
                for piece in pieces:
                    yield piece
                if event.get("type") == "message_stop":
                    break
        if not reading.finish:
            raise self._endpoint.failed("closed the stream in the middle of an answer")
        yield Stopped(_FINISHES.get(reading.finish, "stop"))

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        system = [m.text for m in prompt.messages if m.role == "system"]
        body: dict[str, Any] = {
            "model": self._model.model,
            "max_tokens": prompt.output_tokens_max,
            "messages": _turns([m for m in prompt.messages if m.role != "system"]),
            "stream": True,
        }
        if system:
            body["system"] = "\n\n".join(system)
        if prompt.temperature is not None:
            body["temperature"] = min(prompt.temperature, TEMPERATURE_MAX)
        if prompt.stop_sequences:
            body["stop_sequences"] = list(prompt.stop_sequences)
        if prompt.tools:
            body["tools"] = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": json.loads(tool.parameters_schema or '{"type": "object"}'),
                }
                for tool in prompt.tools
            ]
            body["tool_choice"] = _choice(prompt)
        return body


@dataclass(slots=True)
class _Reading:
    """What came of one message so far."""

    finish: str = ""
    _open: dict[int, list[str]] = field(default_factory=dict)
    _calls: int = 0
    _characters: int = 0

    def take(self, event: Mapping[str, Any]) -> Iterator[Piece]:
        """The pieces of one event. Raises ValueError and the like for what is none."""
        match event.get("type"):
            case "message_start":
                yield _used(event["message"].get("usage") or {})
            case "content_block_start":
                block = event["content_block"]
                if block.get("type") == "tool_use":
                    self._begin(int(event["index"]), block)
                elif block.get("type") == "text" and block.get("text"):
                    yield Said(_text(block["text"]))
            case "content_block_delta":
                yield from self._more(int(event["index"]), event["delta"])
            case "content_block_stop":
                call = self._open.pop(int(event["index"]), None)
                if call is not None:
                    yield ToolCall(call[0], call[1], call[2] or "{}")
            case "message_delta":
                self.finish = _text(event["delta"].get("stop_reason") or "") or self.finish
                yield Used(output_tokens=_count((event.get("usage") or {}).get("output_tokens")))
            case _:  # ping, message_stop, and what the protocol adds
                return

    def _begin(self, index: int, block: Mapping[str, Any]) -> None:
        self._calls += 1
        if self._calls > TOOL_CALLS_MAX:
            raise ValueError("tool calls without end")
        self._open[index] = [_text(block.get("id")), _text(block.get("name")), ""]

    def _more(self, index: int, delta: Mapping[str, Any]) -> Iterator[Piece]:
        match delta.get("type"):
            case "text_delta":
                yield Said(_text(delta.get("text")))
            case "input_json_delta":
                more = _text(delta.get("partial_json"))
                self._characters += len(more)
                if self._characters > ANSWER_CHARACTERS_MAX:
                    raise ValueError("tool calls without end")
                self._open[index][2] += more
                yield Thinking(more)
            case "thinking_delta":
                yield Thinking(_text(delta.get("thinking")))
            case _:
                return


def _used(usage: Mapping[str, Any]) -> Used:
    """The prompt's tokens: those read anew, those written to the cache and those from it."""
    fresh, made, cached = (
        _count(usage.get(name)) or 0
        for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )
    total = fresh + made + cached
    return Used(total or None, None, cached)


def _turns(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages as blocks, those of one side after another as one: what tools say is the
    user's, and has to stand in one message."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: ChatMessage) -> list[dict[str, Any]]:
    if message.role == "tool":
        called = message.tool_call_id
        return [{"type": "tool_result", "tool_use_id": called, "content": message.text}]
    blocks: list[dict[str, Any]] = []
    if message.text:
        blocks.append({"type": "text", "text": message.text})
    for call in message.tool_calls:
        given = json.loads(call.arguments or "{}")
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return blocks


def _choice(prompt: Prompt) -> dict[str, Any]:
    if prompt.tool_choice.tool:
        return {"type": "tool", "name": prompt.tool_choice.tool}
    return {"type": {"required": "any"}.get(prompt.tool_choice.mode, prompt.tool_choice.mode)}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is none")
    return value


def _count(value: object) -> int | None:
    """A count of tokens; None for what is none, so that ours counts."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**31 else None  # type: ignore[operator,return-value]
