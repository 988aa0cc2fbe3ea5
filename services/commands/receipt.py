"""`ragmesh receipt` and `ragmesh replay`: what an answer was made from, and what would be different
now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import FailedPrecondition
from services.commands import options
from services.commands.answers import from_answer, print_answer
from services.commands.output import print_json, stdout
from services.commands.snapshots import open_client

if TYPE_CHECKING:
    from ragmesh import AnswerReceipt, KeptAnswer
    from rich.console import Console

_Answer = Annotated[str, typer.Argument(help="Id of the answer, or `answers/…`.")]
_HASH_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was. `before` or `after` is empty where there was nothing."""

    what: str
    before: str
    after: str


def receipt(
    answer: _Answer,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Show what an answer of the last day was made from: passages, models, watermarks, times."""
    with open_client(address, data_dir) as client:
        kept = client.get_answer(answer)
    if json:
        print_json(to_dict(kept))
    else:
        _print(stdout(), kept)


def replay(
    answer: _Answer,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Ask an answer's question once more, and show what is different."""
    with open_client(address, data_dir) as client:
        before = client.get_answer(answer)
        again = client.replay_answer(answer, timeout_s=120.0)
        after = client.get_answer(again.name)
    found = differences(before, after)
    if json:
        changed = [asdict(one) for one in found]
        print_json({"before": before.name, "after": after.name, "differences": changed})
        return
    console = stdout()
    if not found:
        console.print(f"The same answer from the same passages: [bold]{after.name}[/]")
    for one in found:
        console.print(f"[bold]{one.what}[/]")
        _line(console, f"- {one.before}", "red", shown=bool(one.before))
        _line(console, f"+ {one.after}", "green", shown=bool(one.after))
    if found:
        console.print(f"[dim]{before.name} → {after.name}[/]")


def differences(before: KeptAnswer, after: KeptAnswer) -> list[Difference]:
    """What is not the same of two finished answers, in the order of their making. Watermarks are
    told only where passages differ. Raises FailedPrecondition without receipts."""
    old, new = _receipt(before), _receipt(after)
    found = [
        *_changed("model", _models(old), _models(new)),
        *_changed("passage", _passages(old), _passages(new)),
    ]
    if any(one.what.startswith("passage") for one in found):
        found += _changed("watermark of", dict(old.watermarks), dict(new.watermarks))
    if old.prompt_sha256 != new.prompt_sha256:
        found.append(Difference("prompt", old.prompt_sha256, new.prompt_sha256))
    assert before.answer is not None and after.answer is not None
    if before.answer.text != after.answer.text:
        found.append(Difference("text", before.answer.text, after.answer.text))
    reasons = [one.answer.abstention_reason or "" for one in (before, after) if one.answer]
    if reasons[0] != reasons[1]:
        found.append(Difference("abstention", *reasons))
    return found


def _changed(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[Difference]:
    names = dict.fromkeys([*before, *after])
    return [
        Difference(f"{what} {name}", before.get(name, ""), after.get(name, ""))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _receipt(kept: KeptAnswer) -> AnswerReceipt:
    if kept.receipt is None:
        raise FailedPrecondition(
            f"{kept.name} is {kept.state}: only a finished answer has a receipt",
            metadata={"answer": kept.name, "state": kept.state},
        )
    return kept.receipt


def _models(receipt: AnswerReceipt) -> dict[str, str]:
    return {f"{one.name} ({one.role})": one.fingerprint or "-" for one in receipt.models}


def _passages(receipt: AnswerReceipt) -> dict[str, str]:
    return {f"{one.collection} {one.point_id}": one.text_sha256 for one in receipt.passages}


def to_dict(kept: KeptAnswer) -> dict[str, Any]:
    """For JSON."""
    error = kept.error
    return {
        "name": kept.name,
        "state": kept.state,
        "question": kept.question,
        "create_time": kept.create_time,
        "finish_time": kept.finish_time,
        "expire_time": kept.expire_time,
        "error": None if error is None else {"reason": error.reason, "message": str(error)},
        "answer": None if kept.answer is None else from_answer(kept.answer).to_dict(),
        "receipt": None if kept.receipt is None else asdict(kept.receipt),
    }


def _print(console: Console, kept: KeptAnswer) -> None:
    console.print(f"[bold]{kept.name}[/] {kept.state}")
    _line(console, kept.question, "bold")
    if kept.answer is not None:
        print_answer(console, from_answer(kept.answer))
    if kept.error is not None:
        _line(console, str(kept.error), "red")
    if kept.receipt is not None:
        print_receipt(console, kept.receipt)


def print_receipt(console: Console, receipt: AnswerReceipt) -> None:
    """Steps, watermarks, models and passages."""
    for step in receipt.plan:
        _line(console, f"  · {step}")
    for name, watermark in receipt.watermarks.items():
        _line(console, f"  {name} at watermark {watermark}", "dim")
    for model in receipt.models:
        version = f" ({model.fingerprint})" if model.fingerprint else ""
        _line(console, f"  {model.role} by {model.name}{version}", "dim")
    for number, one in enumerate(receipt.passages, start=1):
        place = one.document.rpartition("/")[2] or one.point_id
        _line(
            console,
            f"  {number:3} {place} · passage {one.passage_index} · score {one.score:.4f} · "
            f"sha256 {one.text_sha256[:_HASH_SHOWN]}",
            "cyan",
        )
    if receipt.prompt_sha256:
        _line(console, f"  prompt sha256 {receipt.prompt_sha256[:_HASH_SHOWN]}", "dim")


def _line(console: Console, text: str, style: str = "", *, shown: bool = True) -> None:
    from rich.text import Text

    if shown:
        console.print(Text(text, style))
