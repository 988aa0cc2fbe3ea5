"""The price file of the configuration, read again when it changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from engine.errors import InvalidField
from engine.spending.prices import FIELD, NO_PRICES, PriceTable, read_prices

_LOG = logging.getLogger(__name__)

FILE_BYTES_MAX = 4 << 20
LOOK_S = 1.0
"""Between two looks at whether it changed."""

_Mark = tuple[int, int, int]


class PriceFile:
    """What the file said when it was last in order. Without a path, there are no prices."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked_s = 0.0
        self._mark: _Mark | None = None
        self._table = NO_PRICES

    async def open(self) -> None:
        """Reads it for the first time. Raises InvalidField where it is not there or broken."""
        if self._path is not None:
            self._mark, self._table = await asyncio.to_thread(_read, self._path)
            self._looked_s = self._clock()

    async def table(self) -> PriceTable:
        """The prices by now. A file that was broken meanwhile is logged once, and what it said
        before goes on."""
        now_s = self._clock()
        if self._path is None or now_s - self._looked_s < LOOK_S:
            return self._table
        self._looked_s = now_s
        mark = await asyncio.to_thread(_mark, self._path)
        if mark == self._mark:
            return self._table
        self._mark = mark
        try:
            _, self._table = await asyncio.to_thread(_read, self._path)
            _LOG.info("the price file has version %s", self._table.version)
        except InvalidField as error:
            _LOG.error("version %s goes on: %s", self._table.version, error.message)
        return self._table


def _mark(path: Path) -> _Mark | None:
    """What changes when the file does; None where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> tuple[_Mark | None, PriceTable]:
    mark = _mark(path)
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, type(error).__name__) from error
    if len(data) > FILE_BYTES_MAX:
        raise _unreadable(path, f"more than {FILE_BYTES_MAX:,} bytes")
    return mark, read_prices(text, "json" if path.suffix == ".json" else "toml")


def _unreadable(path: Path, why: str) -> InvalidField:
    return InvalidField(
        f"The price file {path} cannot be read ({why}). Put it there, or leave {FIELD} out.",
        field=FIELD,
        metadata={"path": str(path)},
    )
