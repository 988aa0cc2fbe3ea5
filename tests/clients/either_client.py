"""One face for both clients, so that a scenario is written once."""

from __future__ import annotations

import asyncio
from typing import Any

from ragmesh import AsyncClient, Client


class EitherClient:
    """Calls by name on a Client (in a thread) or an AsyncClient (on the loop)."""

    def __init__(self, kind: str, *arguments: Any, **options: Any) -> None:
        make = Client if kind == "sync" else AsyncClient
        self.inner: Any = make(*arguments, **options)
        self.waits = kind == "sync"

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """The result of an ordinary method."""
        bound = getattr(self.inner, method)
        if self.waits:
            return await asyncio.to_thread(bound, *arguments, **options)
        return await bound(*arguments, **options)

    async def collect(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        """All that a stream or a list gives."""
        seen: list[Any] = []
        await self.collect_into(seen, method, *arguments, **options)
        return seen

    async def collect_into(
        self, seen: list[Any], method: str, *arguments: Any, **options: Any
    ) -> None:
        """The same, keeping what came before a failure."""
        bound = getattr(self.inner, method)
        if self.waits:
            await asyncio.to_thread(lambda: seen.extend(bound(*arguments, **options)))
        else:
            async for item in bound(*arguments, **options):
                seen.append(item)

    async def close(self) -> None:
        """Closes it."""
        closing = self.inner.close()
        if not self.waits:
            await closing
