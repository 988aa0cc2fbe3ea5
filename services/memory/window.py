"""The working window of a session: the newest messages of the branch that was last written, in
Redis. PostgreSQL has the truth; what is not here, or does not fit together, is read from there.

Messages never change, so a window is right as long as each of its messages follows the one before;
whoever reads it sees that for itself. Two writers may overwrite each other's window: it is then
one branch or the other, never a mixture.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from redis.asyncio import Redis

from services.store.messages import Message
from services.store.redis import Lost, attempt
from services.store.sessions import Session

T = TypeVar("T")

MESSAGES_MAX = 512
BYTES_MAX = 1 << 20
"""What a window holds, of the newest messages, whichever is met first. Reads of PostgreSQL stop
there too, so that both give the same."""
KEPT_S = 3600
WAIT_S = 0.25
"""How long Redis is waited for: PostgreSQL has it too."""
PAUSE_S = 5.0
"""After Redis did not answer, it is not asked for so long."""


class Windows:
    """Windows of sessions; without Redis there are none."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._away_until_s = 0.0

    async def read(self, session: Session, leaf_index: int) -> list[Message] | None:
        """The newest messages of the branch that ends with `leaf_index`, in its order, as far as a
        window goes; None where that is not known here."""
        held = await self._held(session)
        positions = [i for i, message in enumerate(held) if message.index == leaf_index]
        if not positions:
            return None
        branch = held[: positions[0] + 1]
        cut = trimmed(branch)
        whole = branch[0].parent == 0 or len(cut) < len(branch) or len(branch) == MESSAGES_MAX
        return cut if whole else None

    async def write(self, session: Session, branch: Sequence[Message]) -> None:
        """Keeps the newest messages of a branch, which `branch` has up to its last one."""
        if self._redis is None or not branch:
            return
        data = json.dumps([_row(message) for message in branch], ensure_ascii=False)
        await self._ask(lambda redis: redis.set(_key(session), data.encode(), ex=KEPT_S))

    async def extend(self, session: Session, appended: Sequence[Message]) -> None:
        """Keeps messages that were appended, if what they follow is here."""
        if self._redis is None:
            return
        held = await self._held(session) if appended[0].parent else []
        if held and held[-1].index != appended[0].parent:
            return
        if held or not appended[0].parent:
            await self.write(session, trimmed([*held, *appended]))

    async def forget(self, session: Session) -> None:
        """Removes the window of a session."""
        await self._ask(lambda redis: redis.delete(_key(session)))

    async def _held(self, session: Session) -> list[Message]:
        """What is here, if each message follows the one before; else nothing."""
        data = await self._ask(lambda redis: redis.get(_key(session)))
        if not data:
            return []
        try:
            held = [_message(row) for row in json.loads(data)]
        except (ValueError, TypeError, KeyError):
            return []  # of another version, or damaged
        follows = all(b.parent == a.index for a, b in itertools.pairwise(held))
        return held if follows else []

    async def _ask(self, ask: Callable[[Redis], Awaitable[T]]) -> T | None:
        """Redis's answer; None where there is none."""
        if self._redis is None or time.monotonic() < self._away_until_s:
            return None
        answer = await attempt(ask(self._redis), timeout_s=WAIT_S)
        if isinstance(answer, Lost):
            self._away_until_s = time.monotonic() + PAUSE_S
            return None
        return answer


def trimmed(branch: Sequence[Message]) -> list[Message]:
    """The newest messages of a branch that a window holds, at least one."""
    size_bytes = count = 0
    for message in reversed(branch[-MESSAGES_MAX:]):
        size_bytes += message.size_bytes
        if count and size_bytes > BYTES_MAX:
            break
        count += 1
    return list(branch[len(branch) - count :])


def _key(session: Session) -> str:
    return f"ragmesh:session:{session.tenant}:{session.uid}"


def _row(message: Message) -> list[object]:
    return [
        *(message.index, message.parent, message.depth, message.role, message.size_bytes),
        *(message.text, message.payload, message.create_time.isoformat()),
    ]


def _message(row: list[object]) -> Message:
    index, parent, depth, role, size_bytes, text, payload, create_time = row
    if not (isinstance(text, str) and isinstance(payload, dict)):
        raise ValueError("no message")
    return Message(
        index=int(str(index)),
        parent=int(str(parent)),
        depth=int(str(depth)),
        role=int(str(role)),
        size_bytes=int(str(size_bytes)),
        text=text,
        payload=payload,
        create_time=datetime.fromisoformat(str(create_time)),
    )
