"""`ragmesh ask`: an answer with citations."""

from __future__ import annotations

from typing import Annotated

import typer

from services.commands import options
from services.commands.connect import find_address
from services.commands.output import print_json, stdout


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    collection: Annotated[
        list[str], typer.Option("--collection", "-c", help="Where to look; up to 16 of them.")
    ],
    model: Annotated[str, typer.Option(help="Generation model [default: the server's].")] = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Answer a question from collections, with a quote for everything it rests on."""
    found_address = find_address(address, data_dir)
    from ragmesh import Client

    from services.commands.answers import from_answer, print_answer

    with Client(found_address) as client:
        shown = from_answer(
            client.ask_question(question, collection, generation_model=model, timeout_s=120.0)
        )
    if json:
        print_json(shown.to_dict())
    else:
        print_answer(stdout(), shown)
