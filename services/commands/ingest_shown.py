"""How an ingestion is told: a picture that moves for people, lines of JSON for programs."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from services.commands.ingestion import Item, Outcome, Told
from services.commands.output import print_json, stderr

if TYPE_CHECKING:
    from ragmesh import IngestJob
    from rich.console import Console, RenderableType

UNCHANGED = "UNCHANGED"
"""The reason of a file that is there already as it is: counted, and in no table."""
ROWS_MAX = 6
"""Files that are shown at work at once."""
REASONS_KEPT_MAX = 1_000
"""Outcomes that the table at the end is made of; lines of JSON have all."""
REASONS_SHOWN_MAX = 40
NAME_CHARACTERS_MAX = 38
WHY_CHARACTERS_MAX = 160


@dataclass(frozen=True, slots=True)
class Pace:
    """How far an ingestion is. What was skipped is no work, and counts nowhere."""

    elapsed_s: float
    files: int = 0
    files_left: int = 0
    size_bytes: int = 0
    bytes_left: int = 0
    passages: int = 0

    @property
    def files_per_s(self) -> float:
        """Files that ended, a second."""
        return self.files / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def passages_per_s(self) -> float:
        """Passages that became searchable, a second."""
        return self.passages / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes if it is like what was: by bytes, because files differ.
        None before anything has ended."""
        if not self.files_left:
            return 0.0
        if self.size_bytes and self.bytes_left:
            return self.elapsed_s * self.bytes_left / self.size_bytes
        return self.elapsed_s * self.files_left / self.files if self.files else None


class Tally(Told):
    """Counts what ended, in memory that does not grow with it."""

    def __init__(self, files: int = 0, size_bytes: int = 0) -> None:
        """`files` and `size_bytes` are all that there is to do."""
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.passages = 0
        self._passages_moving: dict[str, int] = {}
        self._files, self._bytes = files, size_bytes
        self._files_done = self._bytes_done = 0
        self._begun_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begun_s

    @property
    def pace(self) -> Pace:
        """How far it is now."""
        return Pace(
            self.seconds,
            self._files_done,
            max(0, self._files - self._files_done),
            self._bytes_done,
            max(0, self._bytes - self._bytes_done),
            self.passages + sum(self._passages_moving.values()),
        )

    def moved(self, item: Item, job: IngestJob) -> None:
        self._passages_moving[item.label] = job.passages_done

    def ended(self, outcome: Outcome) -> None:
        self._passages_moving.pop(outcome.label, None)
        self.counts[outcome.result] += 1
        self.passages += outcome.passages
        if outcome.result == "skipped":
            self._files -= 1
            self._bytes -= outcome.size_bytes
            self.counts["unchanged"] += outcome.reason == UNCHANGED
        else:
            self._files_done += 1
            self._bytes_done += outcome.size_bytes
        told = outcome.result != "ingested" and outcome.reason != UNCHANGED
        if told and len(self.outcomes) < REASONS_KEPT_MAX:
            self.outcomes.append(outcome)

    def close(self) -> None:
        """Nothing more is told."""


class Lines(Tally):
    """A line of JSON for each stage that a file enters, and one for its end."""

    def __init__(self, files: int = 0, size_bytes: int = 0) -> None:
        super().__init__(files, size_bytes)
        self._seen: dict[str, str] = {}

    def moved(self, item: Item, job: IngestJob) -> None:
        super().moved(item, job)
        if job.stage == "unspecified" or self._seen.get(item.label) == job.stage:
            return
        self._seen[item.label] = job.stage
        print_json(
            {
                "event": "stage",
                "file": item.label,
                "stage": job.stage,
                "passages_done": job.passages_done,
                "passages_total": job.passages_total,
            }
        )

    def ended(self, outcome: Outcome) -> None:
        super().ended(outcome)
        self._seen.pop(outcome.label, None)
        said = asdict(outcome)
        print_json({"event": "file", "file": said.pop("label"), **said})


class Picture(Tally):
    """Bars on a terminal: one for all, one for each file at work."""

    def __init__(
        self, files: int = 0, size_bytes: int = 0, *, console: Console | None = None
    ) -> None:
        super().__init__(files, size_bytes)
        from rich.live import Live

        self._rows: dict[str, IngestJob] = {}
        self.middle: RenderableType | None = None
        """The picture as it was halfway."""
        self._live = Live(
            get_renderable=self.drawn,
            console=console or stderr(),
            refresh_per_second=4,
            transient=True,
        )
        self._live.start()

    def moved(self, item: Item, job: IngestJob) -> None:
        super().moved(item, job)
        if item.label in self._rows or len(self._rows) < ROWS_MAX:
            self._rows[item.label] = job
        if self.middle is None and len(self._rows) > 1 and self.pace.files >= self.pace.files_left:
            self.middle = self.drawn()

    def ended(self, outcome: Outcome) -> None:
        super().ended(outcome)
        self._rows.pop(outcome.label, None)

    def close(self) -> None:
        """Takes the picture away; twice does nothing."""
        self._live.stop()

    def drawn(self) -> RenderableType:
        """The picture as it is now."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        pace = self.pace
        whole = pace.files + pace.files_left
        table = Table.grid(padding=(0, 1))
        table.add_column(width=NAME_CHARACTERS_MAX, no_wrap=True)
        table.add_column(width=8)
        table.add_column(width=24)
        table.add_column(no_wrap=True)
        bar = ProgressBar(total=max(1, whole), completed=pace.files, width=24)
        table.add_row(Text("all files", "bold"), "", bar, f"{pace.files} of {whole}")
        for label, job in self._rows.items():
            table.add_row(Text(short(label)), _stage(job), _bar(job), _passages(job))
        return Group(table, Text(speed(pace), "dim"))


def speed(pace: Pace) -> str:
    """How fast it goes, and how long it will take."""
    left = f" · about {duration(pace.left_s)} left" if pace.left_s else ""
    return f"{pace.files_per_s:.1f} files/s · {pace.passages_per_s:.0f} passages/s{left}"


def duration(seconds: float) -> str:
    """Such as `3 s`, `4 min 10 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"


def short(label: str) -> str:
    """The end of a path, which says more than its beginning."""
    over = len(label) > NAME_CHARACTERS_MAX
    return "…" + label[1 - NAME_CHARACTERS_MAX :] if over else label


def common_folder(labels: Sequence[str]) -> str:
    """What all paths begin with, up to a slash, if there are several; empty otherwise."""
    if len(labels) < 2 or len({label.startswith("/") for label in labels}) > 1:
        return ""
    return os.path.join(os.path.commonpath([os.path.dirname(label) for label in labels]), "")


def print_left_out(console: Console, left_out: list[Outcome], among: int) -> None:
    """A table of what was not ingested and why, failures in red and first; `among` is how many
    there are."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="not ingested", title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("reason", no_wrap=True)
    table.add_column("why", overflow="fold")
    ordered = sorted(left_out, key=lambda outcome: outcome.result != "failed")
    begin = len(common_folder([outcome.label for outcome in ordered]))
    for one in ordered[:REASONS_SHOWN_MAX]:
        color = "red" if one.result == "failed" else "yellow"
        why = Text(" ".join(one.message.split()))
        why.truncate(WHY_CHARACTERS_MAX, overflow="ellipsis")
        table.add_row(Text(one.label[begin:]), Text(one.reason, color), why)
    console.print(table)
    if among > REASONS_SHOWN_MAX:
        console.print(f"… and {among - REASONS_SHOWN_MAX} more; --json tells all")


def _stage(job: IngestJob) -> str:
    if job.state == "queued":
        return "waits"
    return "starts" if job.stage == "unspecified" else job.stage


def _passages(job: IngestJob) -> str:
    return f"{job.passages_done} of {job.passages_total} passages" if job.passages_total else ""


def _bar(job: IngestJob) -> Any:
    from rich.progress_bar import ProgressBar

    if not job.passages_total:
        return ProgressBar(total=None, width=24, pulse=True)
    return ProgressBar(total=job.passages_total, completed=job.passages_done, width=24)
