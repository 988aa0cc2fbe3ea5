"""The same answers in both protocols."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.services.generation.openai_endpoint import Events, chunk, usage_chunk

DONE = b"data: [DONE]\n\n"
PROTOCOLS = ("openai", "anthropic")


def pieces(protocol: str, texts: Sequence[str]) -> list[dict[str, Any] | bytes]:
    """The beginning of an answer."""
    if protocol == "openai":
        return [chunk(text) for text in texts]
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 7}}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}
    deltas: list[dict[str, Any] | bytes] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in texts
    ]
    return [start, block, {"type": "ping"}, *deltas]


def ending(protocol: str, output_tokens: int, finish: str = "") -> list[dict[str, Any] | bytes]:
    """The end of an answer."""
    if protocol == "openai":
        return [chunk("", finish or "stop"), usage_chunk(7, output_tokens), DONE]
    last = {
        "type": "message_delta",
        "delta": {"stop_reason": finish or "end_turn"},
        "usage": {"output_tokens": output_tokens},
    }
    return [{"type": "content_block_stop", "index": 0}, last, {"type": "message_stop"}]


def whole(
    protocol: str, texts: Sequence[str], output_tokens: int = 5, finish: str = "", **how: Any
) -> Events:
    """A whole answer of 7 tokens read."""
    said = [*pieces(protocol, texts), *ending(protocol, output_tokens, finish)]
    return Events(said, **how)


def calling(protocol: str, name: str, arguments: str) -> Events:
    """An answer that calls a tool, its arguments in two pieces."""
    half = len(arguments) // 2
    if protocol == "openai":
        first = {"index": 0, "id": "call_1", "function": {"name": name, "arguments": ""}}
        parts = [
            {"index": 0, "function": {"arguments": part}}
            for part in (arguments[:half], arguments[half:])
        ]
        said = [chunk(tool_calls=[part]) for part in (first, *parts)]
        return Events([*said, *ending(protocol, 9, "tool_calls")])
    block = {"type": "tool_use", "id": "call_1", "name": name, "input": {}}
    deltas = [
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": part},
        }
        for part in (arguments[:half], arguments[half:])
    ]
    return Events(
        [
            *pieces(protocol, ["Let me see."]),
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": block},
            *deltas,
            {"type": "content_block_stop", "index": 1},
            *ending(protocol, 9, "tool_use"),
        ]
    )


def prompt_text(body: dict[str, Any]) -> str:
    """All that a request's model reads, as one text."""
    return json.dumps([body.get("system", ""), body["messages"]], ensure_ascii=False)
