"""How a collection is shown to people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from services.commands.output import stdout

if TYPE_CHECKING:
    from ragmesh import BandRecall, Collection, CollectionStats


def show_collection(found: Collection, stats: CollectionStats) -> None:
    """Its settings, its figures, and its recall by band."""
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    figures = asdict(stats)
    del figures["recall"]
    for name, value in [*_rows(asdict(found)), *_rows(figures)]:
        table.add_row(name, str(value))
    console = stdout()
    console.print(table)
    if stats.recall:
        console.print(_recall(stats.recall))
    else:
        share = found.recall.sample_share
        console.print(f"No search was done again yet to see its recall (a share of {share:g} is).")


def show_changes(before: Collection, after: Collection) -> None:
    """What is different now."""
    console, old = stdout(), dict(_rows(asdict(before)))
    changes = [
        f"{name}: {old[name]} → [bold]{value}[/]"
        for name, value in _rows(asdict(after))
        if name != "update time" and old.get(name) != value
    ]
    console.print("\n".join(changes) if changes else "Everything was so already.")


def _recall(bands: tuple[BandRecall, ...]) -> Any:
    from rich.table import Table

    table = Table(title="recall, by how much a filter lets through", title_justify="left")
    for name in ("at least", "recall", "with 95 %", "searches", "candidates"):
        table.add_column(name, justify="right")
    for one in bands:
        table.add_row(
            "no filter" if one.selectivity_min == 1 else f"{one.selectivity_min:g}",
            f"{one.recall:.4f}",
            f"{one.recall_low:.4f} to {one.recall_high:.4f}",
            f"{one.searches:,}",
            f"{one.ef_search:,}" if one.ef_search else "all vectors",
        )
    return table


def _rows(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Names as people read them; what groups hold under the group's name."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{before}{name} ")
        else:
            yield (before + name).replace("_", " "), value
