"""Search clients, ragmesh's and others', each in a process of its own, asked in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.conditions import Numbers, Range
from benchmarks.data import Matrix
from benchmarks.peers.environment import PeerMissing, find
from benchmarks.peers.process import PeerProcess, running
from benchmarks.timing import Series

Found = list[list[int]]


class SearchClient:
    """One of them, and the files it reads from."""

    def __init__(self, peer: PeerProcess, folder: Path) -> None:
        self.name = peer.name
        self.versions = peer.versions
        self._peer = peer
        self._folder = folder

    def fill(self, points: Matrix, numbers: Numbers) -> float:
        """Writes the points, numbered by row, with these numbers as payload; the seconds that
        its own calls took, until its index is built."""
        rows, carried = self._folder / "points.npy", self._folder / "numbers.npz"
        np.save(rows, points)
        np.savez(carried, **{name: np.asarray(of) for name, of in numbers.items()})  # type: ignore[arg-type]
        seconds: float = self._peer.ask({"fill": str(rows), "numbers": str(carried)})["seconds"]
        return seconds

    def take(self, queries: Matrix) -> None:
        """The queries that it will be asked for by row."""
        file = self._folder / "queries.npy"
        np.save(file, queries)
        self._peer.ask({"queries": str(file)})

    def search(
        self, queries: Sequence[int], ranges: Sequence[Range | None]
    ) -> tuple[list[float], Found]:
        """Each query within its range, one call at a time: milliseconds and rows found."""
        answer = self._peer.ask(
            {
                "search": [int(one) for one in queries],
                "ranges": [one and [one.field, one.gte, one.lt] for one in ranges],
            }
        )
        return answer["latencies_ms"], answer["found"]


class Clients:
    """Those that are installed, until `stack` ends. `missing` has the sentences about others."""

    def __init__(self, bench: Bench, stack: ExitStack, folder: Path) -> None:
        self.running: dict[str, SearchClient] = {}
        self.missing: list[str] = []
        self._bench = bench
        self._stack = stack
        self._folder = folder

    def start(self, name: str, **given: Any) -> SearchClient | None:
        """The peer of that name; None where it is not installed."""
        folder = self._folder / name
        folder.mkdir()
        self._bench.say(f"starting {name}")
        try:
            process = self._stack.enter_context(
                running(find(name), folder=str(folder / "data"), **given)
            )
        except PeerMissing as error:
            self._bench.say(str(error))
            self.missing.append(str(error))
            return None
        self.running[name] = SearchClient(process, folder)
        return self.running[name]

    @property
    def versions(self) -> str:
        """The packages of all that run, each once."""
        found = {f"{k} {v}" for one in self.running.values() for k, v in one.versions.items()}
        return ", ".join(sorted(found))


def ask_in_turns(
    clients: Mapping[str, SearchClient],
    ranges: Sequence[Range | None],
    *,
    rounds: int,
    calls: int,
    warm_up: int,
) -> dict[str, tuple[Series, Found]]:
    """Every client with the same queries in each round (`round * calls` and on, counted around
    `ranges`); who goes first changes from round to round. What each found is in the order of the
    queries, the warm-up's left out."""
    names, count = list(clients), len(ranges)
    rows: dict[str, list[list[float]]] = {name: [] for name in names}
    found: dict[str, Found] = {name: [] for name in names}
    for name in names:
        asked = [i % count for i in range(warm_up)]
        clients[name].search(asked, [ranges[i] for i in asked])
    for number in range(rounds):
        asked = [i % count for i in range(number * calls, (number + 1) * calls)]
        first = number % len(names)
        for name in names[first:] + names[:first]:
            latencies_ms, hits = clients[name].search(asked, [ranges[i] for i in asked])
            rows[name].append(latencies_ms)
            found[name] += hits
    return {name: (Series(np.array(rows[name])), found[name]) for name in names}
