"""The processes that the suite `embed` compares, each started when first asked for."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.node import EmbeddingNode, embedding_node
from benchmarks.peers.environment import PeerMissing, find
from benchmarks.peers.process import PeerProcess, running
from engine.models import default

WARM_UP = ("A text that is short.", "One that is longer, so that nothing waits for memory. " * 20)


class Sides:
    """Peers and nodes that live until `stack` ends. `missing` are the sentences about peers that
    are not installed; what they would have measured is NaN."""

    def __init__(self, bench: Bench, cache: Path, stack: ExitStack) -> None:
        self.threads = len(os.sched_getaffinity(0))
        self.missing: list[str] = []
        self.tei_url = bench.options.peers.get("tei", "")
        self._bench = bench
        self._cache = cache
        self._stack = stack
        self._peers: dict[str, PeerProcess | None] = {}
        self._nodes: dict[str, EmbeddingNode] = {}

    @property
    def versions(self) -> str:
        """The packages of all that ran in environments of their own or ours, each once."""
        found = {
            f"{package} {version}"
            for peer in self._peers.values()
            if peer is not None
            for package, version in peer.versions.items()
        }
        return ", ".join(sorted(found))

    def peer(self, name: str, **options: Any) -> PeerProcess | None:
        """The peer of `benchmarks/peers`, warm; None where it is not installed."""
        key = " ".join((name, *map(str, options.values())))
        if key not in self._peers:
            self._bench.say(f"starting {key}")
            try:
                self._peers[key] = self._start(name, options)
            except PeerMissing as error:
                self._bench.say(str(error))
                self.missing.append(str(error))
                self._peers[key] = None
        return self._peers[key]

    def _start(self, name: str, options: dict[str, Any]) -> PeerProcess:
        peer = self._stack.enter_context(
            running(
                find(name),
                model=str(default.directory()),
                cache=str(self._cache),
                threads=self.threads,
                options=options,
            )
        )
        for texts in (WARM_UP, WARM_UP * 16):
            peer.embed(texts)
        return peer

    def node(self, policy: str = "lanes") -> EmbeddingNode:
        """A node whose queue has the policy. It keeps no vectors, or a second round would find
        those of the first."""
        if policy not in self._nodes:
            self._bench.say(f"starting a node, policy {policy}")
            self._nodes[policy] = self._stack.enter_context(
                embedding_node(self._cache, policy=policy, cache_bytes_max=0)
            )
        return self._nodes[policy]
