"""What makes a request of the memory service wrong whatever the state."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.message import Message

from services.memory.checks import contexts, memories, sessions
from services.rpc.chain import Check

CHECKS: Mapping[type[Message], Check] = MappingProxyType(
    {**sessions.CHECKS, **contexts.CHECKS, **memories.CHECKS}
)
