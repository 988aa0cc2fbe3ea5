"""Vectors made before, by what they were made from: in this process, and in Redis for all nodes.

What is true of it:

- a key says tenant, fingerprint (weights, precision, pooling, prompts, dimensions), kind and text,
  so no tenant sees, or can time, what another one asked;
- an entry of Redis carries its key, so an answer that belongs to another question (a connection
  that a cancelled call left behind) is not believed;
- Redis that is slow or gone costs its short timeout once a second at the most, and is otherwise
  not noticed; what waits to be written to it is bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from redis.asyncio import Redis

from engine.models.model_dir import Kind
from engine.types import Vector
from services.ending import ended
from services.rpc import metrics
from services.store.redis import Lost, attempt

ENTRY_BYTES = 400
"""What an entry takes beside its numbers: measured for key, tuple, array header and place."""
READ_S, READ_EACH_S = 0.02, 0.0002
"""How long an answer of Redis is worth waiting for: embedding a query takes some 3 ms."""
LOST_S = 1.0
"""How long Redis is left alone after it did not answer."""
WRITES_MAX = 8
"""Writes to Redis that may be under way; what comes beyond them is not kept there."""

_HEADER = struct.Struct("<2sBI32s")
_MARK = b"v1"
_PREFIX = b"ragmesh:vector:"

Key = bytes
"""32 bytes."""


class CachedVector(NamedTuple):
    """A text's vector, the tokens that were read, and whether that was not all of it."""

    vector: Vector
    tokens: int
    truncated: bool


def key_of(tenant: str, fingerprint: str, kind: Kind, truncate: bool, text: str) -> Key:
    """The key of one text. `truncate` is part of it: without it, a long text is refused."""
    about = f"{tenant}\n{fingerprint}\n{kind}\n{truncate:d}\n"
    return hashlib.sha256(about.encode() + text.encode("utf-8", "surrogatepass")).digest()


class VectorCache:
    """The least recently used entries leave when `bytes_max` is reached; 0 keeps nothing at all.
    In Redis, entries leave after `ttl_s`. `used_bytes` is what the entries here take. Used from
    one event loop."""

    def __init__(self, bytes_max: int, ttl_s: int, redis: Redis | None) -> None:
        self.enabled = bytes_max > 0
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._redis = redis if self.enabled else None
        self._entries: OrderedDict[Key, CachedVector] = OrderedDict()
        self.used_bytes = 0
        self._lost_until_s = 0.0
        self._writes: set[asyncio.Task[object]] = set()

    async def find(self, keys: Iterable[Key]) -> dict[Key, CachedVector]:
        """What is known of `keys`."""
        asked = list(dict.fromkeys(keys))
        found = {key: self._entries[key] for key in asked if key in self._entries}
        for key in found:
            self._entries.move_to_end(key)
        metrics.CACHE_TEXTS.labels("memory").inc(len(found))
        missing = [key for key in asked if key not in found]
        fetched = await self._fetch(missing) if missing else {}
        metrics.CACHE_TEXTS.labels("redis").inc(len(fetched))
        metrics.CACHE_TEXTS.labels("miss").inc(len(missing) - len(fetched))
        for key, entry in fetched.items():
            self._remember(key, entry)
        return found | fetched

    def keep(self, made: Mapping[Key, CachedVector]) -> None:
        """Keeps new entries; Redis gets them in the background."""
        for key, entry in made.items():
            self._remember(key, entry)
        if self._redis is None or not made or self._is_lost() or len(self._writes) >= WRITES_MAX:
            return
        task = asyncio.create_task(self._store(self._redis, dict(made)))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Gives up what is still to be written."""
        await ended(self._writes)

    def _remember(self, key: Key, entry: CachedVector) -> None:
        size = entry.vector.nbytes + ENTRY_BYTES
        if size > self._bytes_max:
            return
        old = self._entries.pop(key, None)
        if old is not None:
            self.used_bytes -= old.vector.nbytes + ENTRY_BYTES
        self._entries[key] = entry
        self.used_bytes += size
        while self.used_bytes > self._bytes_max:
            _, oldest = self._entries.popitem(last=False)
            self.used_bytes -= oldest.vector.nbytes + ENTRY_BYTES
        metrics.CACHE_BYTES.set(self.used_bytes)

    def _is_lost(self) -> bool:
        return time.monotonic() < self._lost_until_s

    async def _fetch(self, keys: Sequence[Key]) -> dict[Key, CachedVector]:
        if self._redis is None or self._is_lost():
            return {}
        names = [_PREFIX + key for key in keys]
        answer = await attempt(self._redis.mget(names), timeout_s=READ_S + READ_EACH_S * len(names))
        if isinstance(answer, Lost):
            self._lost_until_s = time.monotonic() + LOST_S
            return {}
        pairs = zip(keys, answer, strict=False)
        read = {key: decode(key, data) for key, data in pairs if isinstance(data, bytes)}
        return {key: entry for key, entry in read.items() if entry is not None}

    async def _store(self, redis: Redis, made: Mapping[Key, CachedVector]) -> None:
        pipeline = redis.pipeline(transaction=False)
        for key, entry in made.items():
            pipeline.set(_PREFIX + key, encode(key, entry), ex=self._ttl_s)
        if isinstance(await attempt(pipeline.execute()), Lost):
            self._lost_until_s = time.monotonic() + LOST_S


def encode(key: Key, entry: CachedVector) -> bytes:
    """An entry as Redis keeps it."""
    header = _HEADER.pack(_MARK, entry.truncated, entry.tokens, key)
    return header + entry.vector.astype("<f4").tobytes()


def decode(key: Key, data: bytes) -> CachedVector | None:
    """The entry, or None for bytes that are not one of this key."""
    if len(data) <= _HEADER.size or (len(data) - _HEADER.size) % 4:
        return None
    mark, truncated, tokens, own_key = _HEADER.unpack_from(data)
    if mark != _MARK or own_key != key:
        return None
    vector = np.frombuffer(data, "<f4", offset=_HEADER.size).astype(np.float32)
    return CachedVector(vector, tokens, bool(truncated))
