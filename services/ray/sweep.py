"""End the nodes of one machine that nobody keeps and nobody will."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from services.ray import records
from services.ray.node import Node, end_all
from services.ray.records import Record

ADOPT_WITHIN_S = 15.0
"""A node may be without a keeper for so long: Serve starts the next one in less."""


def sweep(data_dir: str, deployment: str, session: str, grace_s: float) -> None:
    """Drain what has no keeper and belongs to another session than this one, or has had none for
    longer than ADOPT_WITHIN_S."""
    end_all(list(_condemned(records.home(Path(data_dir), deployment), session)), grace_s)


def close(data_dir: str, deployment: str, session: str, grace_s: float) -> None:
    """Drain every node of the deployment on this machine, and keep its keepers, which Ray may not
    reach, from starting it again. `grace_s` 0 ends them at once."""
    here = records.home(Path(data_dir), deployment)
    records.close(here, session)
    end_all([node for record in records.all_records(here) for node in _living(record)], grace_s)


def _condemned(here: Path, session: str) -> Iterator[Node]:
    for record in records.orphans(here):
        about = record.about()
        ours = about is not None and about.session == session
        if ours and record.unkept_s() < ADOPT_WITHIN_S:
            record.release()
        else:
            yield from _living(record)


def _living(record: Record) -> Iterator[Node]:
    """The node of a record, where it lives."""
    pid = record.pid()
    with contextlib.suppress(ProcessLookupError):
        if pid:
            yield Node(record, pid)
