"""REST and SSE through Envoy, as a caller with nothing but HTTP and the descriptor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
from google.protobuf import json_format
from google.protobuf.message import Message

from services.rpc.methods import Method
from tests.behaviour.damage import Damage, damaged_http
from tests.behaviour.refusals import from_http
from tests.behaviour.rungs import RPCS, TIMEOUT_S
from tests.behaviour.transcoding import rules, transcode


class RestRung:
    """JSON by the contract's HTTP rules."""

    name = "rest"

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def call(
        self,
        rpc: str,
        request: Message,
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """A unary call."""
        method = RPCS[rpc]
        sent = transcode(rules(method)[0], request)
        answer = await self.http.request(
            sent.verb,
            sent.path,
            params=sent.params,
            json=sent.json,
            headers={**_headers(tenant, timeout_s), **(headers or {})},
        )
        return _read(method, answer.status_code, answer.content)

    async def stream(
        self,
        rpc: str,
        request: Message,
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Any]:
        """A server stream, as server-sent events."""
        method = RPCS[rpc]
        sent = transcode(rules(method)[0], request)
        own = {**_headers(tenant, timeout_s), "accept": "text/event-stream", **(headers or {})}
        async with self.http.stream(
            sent.verb, sent.path, params=sent.params, json=sent.json, headers=own
        ) as answer:
            if answer.status_code != 200:
                raise from_http(answer.status_code, await answer.aread())
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line:
                    assert line.startswith("data: "), line
                    yield json_format.Parse(line.removeprefix("data: "), method.response())

    async def upload(
        self,
        rpc: str,
        requests: Sequence[Message],
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
    ) -> Any:
        """There is no client stream over REST; see `rungs.WITHOUT_PATH`."""
        raise TypeError(f"{rpc} has no HTTP path")

    async def send_damaged(self, rpc: str, request: Message, damage: Damage) -> None:
        """Sends bytes that are wrong."""
        method = RPCS[rpc]
        verb, path, body = damaged_http(
            transcode(rules(method)[0], request),
            damage,
            listing="page_token" in method.request.DESCRIPTOR.fields_by_name,
        )
        headers = {**_headers("default", TIMEOUT_S), "content-type": "application/json"}
        answer = await self.http.request(verb, path, content=body, headers=headers)
        if answer.status_code != 200:
            raise from_http(answer.status_code, answer.content)


def _headers(tenant: str, timeout_s: float | None) -> dict[str, str]:
    headers = {"x-ragmesh-tenant": tenant}
    if timeout_s is not None:
        headers["grpc-timeout"] = f"{max(0, round(timeout_s * 1e6))}u"
    return headers


def _read(method: Method, status: int, body: bytes) -> Any:
    if status != 200:
        raise from_http(status, body)
    return json_format.Parse(body, method.response())
