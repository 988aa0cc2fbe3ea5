"""`ragmesh search`: the points that match a text best."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal, cast

import typer

from services.commands import options
from services.commands.connect import find_address
from services.commands.output import print_json, stdout

Mode = Literal["dense", "lexical", "hybrid"]


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    collection: options.Collection,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 5,
    mode: Annotated[str, typer.Option(help="dense, lexical or hybrid.")] = "hybrid",
    address: options.Address = "",
    data_dir: options.DataDir = None,
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
        result = client.search_collection(collection, query, mode=cast(Mode, mode), limit=limit)
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
        print_json({"hits": hits, "watermark": result.watermark, "timings": asdict(result.timings)})
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
