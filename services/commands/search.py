"""`ragmesh search`: the points that match a text best."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from services.commands import options
from services.commands.connect import find_address
from services.commands.output import print_json, stdout

if TYPE_CHECKING:
    from ragmesh import SearchPlan

Mode = Literal["dense", "lexical", "hybrid"]


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    collection: options.Collection,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 5,
    mode: Annotated[str, typer.Option(help="dense, lexical or hybrid.")] = "hybrid",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say how it was done.")] = False,
    json: options.Json = False,
) -> None:
    """Search a collection by meaning, by words, or both."""
    if mode not in ("dense", "lexical", "hybrid"):
        raise typer.BadParameter(
            f"{mode!r} is none of dense, lexical and hybrid", param_hint="mode"
        )
    found_address = find_address(address, data_dir)
    from ragmesh import Client

    with Client(found_address) as client:
        result = client.search_collection(
            collection, query, mode=cast(Mode, mode), limit=limit, explain=explain
        )
    if json:
        hits = [
            {
                "id": hit.point.id,
                "score": hit.score,
                "dense_score": hit.dense_score,
                "lexical_score": hit.lexical_score,
                "document": hit.point.document,
                "passage": hit.point.passage_index,
                "span": None if hit.point.span is None else asdict(hit.point.span),
                "text": hit.point.text,
                "payload": dict(hit.point.payload),
            }
            for hit in result.hits
        ]
        timed = asdict(result.timings)
        said: dict[str, Any] = {"hits": hits, "watermark": result.watermark, "timings": timed}
        if result.plan is not None:
            said["plan"] = asdict(result.plan)
        print_json(said)
        return
    from rich.text import Text

    console = stdout()
    if not result.hits:
        console.print(
            f"Nothing in {collection} matches. Is there anything in it? ragmesh collections show "
            f"{collection}"
        )
        return
    for rank, hit in enumerate(result.hits, start=1):
        place = hit.point.document.rpartition("/")[2] or hit.point.id
        if hit.point.document:
            place += f" · passage {hit.point.passage_index}"
        console.print(Text(f"{rank:2}  {hit.score:.3f}  ") + Text(place, "bold"))
        text = " ".join(hit.point.text.split())
        console.print(Text("    " + (text if len(text) <= 300 else text[:299] + "…")))
    timings = result.timings
    console.print(
        f"[dim]{len(result.hits)} hits · embed {timings.embed_ms:.1f} ms · search "
        f"{timings.search_ms:.1f} ms[/]"
    )
    if result.plan is not None:
        print_plan(result.plan)


def print_plan(plan: SearchPlan) -> None:
    """How a search was done, leg by leg and stage by stage."""
    from rich.table import Table

    console = stdout()
    console.print(
        f"\n{plan.strategy} · {plan.matching_points:,} points may be found "
        f"({plan.selectivity:.1%}) · {plan.segments} segments"
    )
    legs = Table("leg", "plan", "found", "looked at", "ef", "weight", "ms")
    for leg in plan.legs:
        looked_at = f"{leg.postings:,} postings"
        if leg.leg == "dense":
            looked_at = f"{leg.visited_points:,} vectors"
        legs.add_row(
            leg.leg,
            leg.strategy,
            f"{leg.candidates:,}",
            looked_at,
            str(leg.ef_search or ""),
            f"{leg.weight:g}",
            f"{leg.took_ms:.2f}",
        )
    console.print(legs)
    console.print(" · ".join(f"{stage} {ms:.2f} ms" for stage, ms in plan.stages_ms.items()))
