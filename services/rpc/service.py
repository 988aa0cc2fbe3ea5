"""What a service room gives to the wiring: its handlers, its checks, and its life."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from google.protobuf.message import Message

from services.rpc.chain import Check, Reader


class Service(Protocol):
    """A hosted service. Its handlers are methods named after the RPCs:
    `async def GetCollection(self, request, call) -> response`, and async generators for server
    streams. Each does the same four things: check, call the core, translate, answer."""

    checks: Mapping[type[Message], Check]
    """For each request class, what raises InvalidArgument errors whatever the state."""

    async def start(self) -> None:
        """Makes the service ready to answer; raises what keeps it from it."""
        ...

    async def drain(self) -> None:
        """Starts nothing new in the background; what runs is finished or left to another node."""
        ...

    async def close(self) -> None:
        """Gives everything back."""
        ...


@runtime_checkable
class HasReaders(Protocol):
    """A service that reads some large requests in a way of its own: their handlers take what the
    reader of the class makes, beside messages."""

    readers: Mapping[type[Message], Reader]
