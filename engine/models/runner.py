"""Runs token ids through a session: pads them into a batch, as each provider likes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.models.graph import IDS, MASK, TYPES
from engine.models.loading import Opened
from engine.models.providers import run_bound

LENGTH_BUCKETS = (16, 32, 64, 128, 192, 256, 384, 512)
"""Lengths that a GPU sees: it keeps plans and memory for every shape, so there are few."""


class Runner:
    """One session and its one output. `run` may be called from many threads."""

    def __init__(self, opened: Opened, output: str) -> None:
        self._session = opened.session
        self._device = opened.provider
        self._inputs = frozenset(entry.name for entry in opened.session.get_inputs())
        self._output = output

    def run(
        self, ids: Sequence[NDArray[np.int64]], types: Sequence[NDArray[np.int64]] = ()
    ) -> NDArray[np.float32]:
        """The output for texts of token `ids`, (texts, …), padded to the longest.

        `types` are the segments of pairs; without them all tokens are of segment 0. Rows and
        tokens that pad a batch into one of a GPU's fixed shapes are cut off again.
        """
        count, longest = len(ids), max(map(len, ids))
        rows, tokens = (count, longest) if self._device == "cpu" else bucket(count, longest)
        feed = {name: np.zeros((rows, tokens), np.int64) for name in (IDS, MASK, TYPES)}
        for row, one in enumerate(ids):
            feed[IDS][row, : len(one)] = one
            feed[MASK][row, : len(one)] = 1
        feed[MASK][count:, 0] = 1  # attention to nothing at all is not a number
        for row, one in enumerate(types):
            feed[TYPES][row, : len(one)] = one
        wanted = {name: array for name, array in feed.items() if name in self._inputs}
        return self._call(wanted)[:count].astype(np.float32, copy=False)

    def _call(self, feed: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        if self._device != "cpu":
            return run_bound(self._session, self._output, feed, self._device)
        found: NDArray[np.float32] = self._session.run([self._output], feed)[0]
        return found


def bucket(rows: int, tokens: int) -> tuple[int, int]:
    """The fixed shape that a batch goes in: a power of two of rows, a length of LENGTH_BUCKETS."""
    length = next((one for one in LENGTH_BUCKETS if one >= tokens), tokens)
    return 1 << (rows - 1).bit_length(), length
