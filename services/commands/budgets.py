"""`ragmesh budgets`: list, set and delete what answers of language models may cost."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import InvalidField
from services.commands import options
from services.commands.output import print_json, stdout
from services.commands.snapshots import open_client

if TYPE_CHECKING:
    from ragmesh import Budget

NANOS = 1_000_000_000

app = typer.Typer(
    help="List, set and delete what answers of language models may cost.",
    pretty_exceptions_enable=False,
)
_Id = Annotated[str, typer.Argument(help="Id of the budget, such as `all`.")]


@app.callback(invoke_without_command=True)
def budgets(
    context: typer.Context,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List the budgets, or see the commands."""
    if context.invoked_subcommand is None:
        show_all(address, data_dir, json)


@app.command("list")
def show_all(
    address: options.Address = "", data_dir: options.DataDir = None, json: options.Json = False
) -> None:
    """List the budgets with what is spent of them."""
    with open_client(address, data_dir) as client:
        found = list(client.list_budgets())
    if json:
        print_json({"budgets": [asdict(one) for one in found]})
        return
    if not found:
        stdout().print("No budgets: answers are bounded by nothing. ragmesh budgets set makes one.")
        return
    _show(found)


@app.command("set")
def set_one(
    budget: _Id,
    limit: Annotated[
        str, typer.Option(help="Money, such as `12.50`, in the currency of the price file; 0: any.")
    ] = "",
    tokens: Annotated[
        int | None, typer.Option(min=0, help="Tokens, read and written together; 0: any.")
    ] = None,
    session: Annotated[
        str, typer.Option(help="Of this session alone [default: of the whole tenant].")
    ] = "",
    reset: Annotated[bool, typer.Option("--reset", help="Begin to count anew.")] = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Make a budget, or change the limits that are given of the one of this id."""
    from ragmesh import BudgetNotFound

    nanos = _nanos(limit) if limit else None
    with open_client(address, data_dir) as client:
        if nanos is None or tokens is None:
            try:
                before = client.get_budget(budget)
            except BudgetNotFound:
                nanos, tokens = nanos or 0, tokens or 0
            else:
                nanos = before.limit_nanos if nanos is None else nanos
                tokens = before.limit_tokens if tokens is None else tokens
                session = session or before.session
        made = client.set_budget(
            budget, limit_nanos=nanos, limit_tokens=tokens, of_session=session, reset=reset
        )
    if json:
        print_json(asdict(made))
    else:
        _show([made])


@app.command("delete")
def delete(
    budget: _Id,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Take a budget away, so that it bounds nothing."""
    with open_client(address, data_dir) as client:
        client.delete_budget(budget)
    if json:
        print_json({"deleted": budget})
    else:
        stdout().print(f"Deleted {budget}.")


def _nanos(limit: str) -> int:
    """Billionths of the currency. Raises InvalidField for what is no amount."""
    try:
        amount = Decimal(limit)
        whole = int(amount * NANOS) if amount.is_finite() and abs(amount) <= 10**9 else -1
        if amount and not whole:  # less than can be counted, where 0 would say: any
            whole = -1
    except InvalidOperation:
        whole = -1
    if whole < 0:
        raise InvalidField(
            f"--limit is {limit[:40]!r}, but is an amount of money from 0 to 1,000,000,000, such "
            "as 12.50.",
            field="limit",
            metadata={"limit": limit[:40]},
        )
    return whole


def _show(found: list[Budget]) -> None:
    from rich.table import Table

    table = Table()
    for name in ("budget", "session", "money spent", "held", "of", "tokens used", "held", "of"):
        table.add_column(name, overflow="fold")
    for one in found:
        money = (one.spent_nanos, one.reserved_nanos, one.limit_nanos)
        counts = (one.spent_tokens, one.reserved_tokens, one.limit_tokens)
        table.add_row(
            one.name.removeprefix("budgets/"),
            one.session.removeprefix("sessions/") or "(all)",
            *(f"{Decimal(nanos) / NANOS:,.4f}" for nanos in money[:2]),
            f"{Decimal(money[2]) / NANOS:,.4f}" if money[2] else "any",
            *(f"{count:,}" for count in counts[:2]),
            f"{counts[2]:,}" if counts[2] else "any",
        )
    stdout().print(table)
