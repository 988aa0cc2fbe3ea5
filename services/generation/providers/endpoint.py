"""An endpoint over HTTP: one POST, an event stream back, and every way in which that can fail.

Nothing that an endpoint says in its errors leaves this module: it may hold keys or texts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import httpx

from services.generation.providers.pieces import EndpointFailed
from services.generation.providers.sse import EventReader, EventTooLarge

CONNECT_S = 5.0
"""To make a connection; others of the pool are used again."""

LAST_TYPE = "message_stop"
"""What ends an answer in the Anthropic protocol; events of the other have no type."""

EMPTY_S = 0.1
"""How long the end of a response is waited for once its answer is whole, so that the connection
can be used again."""

RETRY_AFTER_S_MAX = 3_600.0
"""A longer `Retry-After` is taken for this."""


class Endpoint:
    """Where one model is."""

    def __init__(
        self, model_id: str, url: str, headers: Mapping[str, str], connections_max: int
    ) -> None:
        self.name = f"generationModels/{model_id}"
        self._url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            # Without compression a small answer cannot become a large one.
            headers={"accept": "text/event-stream", "accept-encoding": "identity", **headers},
            # How long an answer may take is bounded by who reads it.
            timeout=httpx.Timeout(None, connect=CONNECT_S, pool=CONNECT_S),
            limits=httpx.Limits(
                max_connections=connections_max, max_keepalive_connections=connections_max
            ),
            # To another host it would carry the key and the texts.
            follow_redirects=False,
        )

    async def close(self) -> None:
        """Closes connections."""
        await self._client.aclose()

    async def events(
        self, path: str, body: Mapping[str, Any], request_id: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one answer, each a JSON object; `[DONE]` ends them, or one of type
        `message_stop`. Closing the generator
        closes the connection, so that the endpoint stops. Raises EndpointFailed."""
        reader = EventReader()
        try:
            async with self._client.stream(
                "POST", f"{self._url}{path}", json=body, headers={"x-request-id": request_id}
            ) as response:
                self._check(response)
                chunks = response.aiter_raw()
                async for chunk in chunks:
                    for data in reader.feed(chunk):
                        if data.strip() == "[DONE]":
                            await _emptied(chunks)
                            return
                        event = self._object(data)
                        yield event
                        if event.get("type") == LAST_TYPE:
                            await _emptied(chunks)
                            return
        except EventTooLarge as error:
            raise self.failed(f"sent an event of more than is taken: {error}") from error
        except UnicodeDecodeError as error:
            raise self.failed("sent what is no UTF-8") from error
        except httpx.ConnectTimeout as error:
            raise self.failed(f"could not be reached within {CONNECT_S:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self.failed("could not be reached, or broke the connection") from error

    def failed(
        self,
        what: str,
        *,
        retry_after_s: float | None = None,
        passing: bool = True,
        broken: bool = True,
        **metadata: str | int | float,
    ) -> EndpointFailed:
        """The failure of this endpoint, as a sentence."""
        return EndpointFailed(
            f"The endpoint of {self.name} {what}.",
            metadata={"model": self.name, **metadata},
            retry_after_s=retry_after_s,
            passing=passing,
            broken=broken,
        )

    def _object(self, data: str) -> dict[str, Any]:
        try:
            read = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.failed("sent an event that is no JSON") from error
        if not isinstance(read, dict):
            raise self.failed("sent an event that is no part of an answer")
        return read

    def _check(self, response: httpx.Response) -> None:
        """Raises EndpointFailed unless an event stream begins."""
        if response.status_code == 200:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                raise self.failed(
                    f"answered with {kind[:40] or 'no content type'} in place of an event stream. "
                    "Check url in the configuration"
                )
            if response.headers.get("content-encoding", "identity") != "identity":
                raise self.failed("compressed its answer although it was not asked to")
            return
        raise self._refused(response)

    def _refused(self, response: httpx.Response) -> EndpointFailed:
        status = response.status_code
        passing = status in (408, 409, 425, 429) or status >= 500
        retry_after_s = _retry_after_s(response.headers) if passing else None
        if status in (401, 403):
            what = f"refused the key (HTTP {status}). Check api_key in the configuration"
        elif status == 429:
            what = "takes no more requests now (HTTP 429)"
        elif status in (301, 302, 303, 307, 308):
            what = (
                f"answered with a redirect (HTTP {status}), which is not followed. Give the url "
                "that it leads to in the configuration"
            )
        elif passing:
            what = f"failed (HTTP {status})"
        else:
            what = (
                f"refused the request (HTTP {status}). Check url and model in the configuration, "
                "and whether the prompt is longer than the model reads"
            )
        return self.failed(
            what,
            retry_after_s=retry_after_s,
            passing=passing,
            # One that is busy, or that finds a request wrong, is not broken.
            broken=status >= 500 or status == 408,
            http_status=status,
        )


async def _emptied(chunks: AsyncIterator[bytes]) -> None:
    """Reads what is left of a response; what is not there soon is not waited for."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(EMPTY_S):
            async for _ in chunks:
                pass


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """`retry-after-ms` or `Retry-After` in seconds; its dates are not read."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if seconds >= 0:
            return min(seconds, RETRY_AFTER_S_MAX)
    return None
