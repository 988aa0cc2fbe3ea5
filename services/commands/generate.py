"""`ragmesh generate`: one message to a language model, shown as it is written, and what it cost."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options
from services.commands.output import print_json, stderr, stdout
from services.commands.snapshots import open_client

if TYPE_CHECKING:
    from ragmesh import GeneratedText

NANOS = 1_000_000_000
TIMEOUT_S = 300.0


def generate(
    message: Annotated[str, typer.Argument(help="What to say to the model.")],
    model: Annotated[str, typer.Option(help="Generation model, such as `writer`.")],
    schema: Annotated[
        Path | None,
        typer.Option(
            help="File with the JSON Schema that the answer has to fit.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    tokens_max: Annotated[
        int, typer.Option(min=0, max=32_768, help="The most tokens to write; 0: the model's own.")
    ] = 0,
    session: Annotated[str, typer.Option(help="Session whose budget counts too.")] = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Ask a language model without any passages: to try an endpoint, its prices and budgets."""
    import ragmesh

    whole: GeneratedText | None = None
    with open_client(address, data_dir) as client:
        for event in client.stream_generate_text(
            messages=[ragmesh.ChatMessage("user", message)],
            model=model,
            output_schema=schema.read_text(encoding="utf-8") if schema else "",
            output_tokens_max=tokens_max,
            of_session=session,
            timeout_s=TIMEOUT_S,
        ):
            if isinstance(event, ragmesh.TextDelta) and not json:
                stdout().print(event.text, end="", markup=False, soft_wrap=True)
            if isinstance(event, ragmesh.GeneratedText):
                whole = event
    assert whole is not None  # a stream without it was cut, which is an error
    if json:
        print_json(asdict(whole))
        return
    stdout().print()
    stderr().print(_footer(whole), style="dim", soft_wrap=True)


def _footer(whole: GeneratedText) -> str:
    usage = whole.usage
    about = "about " if usage.estimated else ""
    cost = "no price"
    if usage.price_version:
        amount = f"{Decimal(usage.cost_nanos) / NANOS:f}"
        cost = f"{amount} {usage.currency} (prices {usage.price_version})"
    why = f", {whole.abstention_reason}" if whole.abstention_reason else ""
    return (
        f"{whole.model.removeprefix('generationModels/')}: {about}{usage.input_tokens:,} tokens "
        f"read, {usage.output_tokens:,} written, {cost}; {whole.finish_reason}{why}"
    )
