"""The corpus: what becomes of every file, and whether every passage quotes its document exactly.

The files are those of `$RAGMESH_DATA/parser-docs`, hostile ones included, or the demo's. Each is
read as a node reads it, in a confined process; then a mesh ingests them, and each passage is
compared with the text at its span as it was read here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragmesh import Client, RagmeshError

from benchmarks.bench import Bench
from benchmarks.data import CORPUS, DATA_VARIABLE
from benchmarks.report import Figure, SuiteReport, Target
from engine.documents.detect import detect
from engine.errors import RagmeshError as Refusal
from services.config import DocumentSettings
from services.documents.office import Office
from services.documents.parser import Parser

COLLECTION = "corpus"
QUICK_BYTES_MAX = 30_000
_REASON_CHARS = 160


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of a file: its text, or why there is none."""

    path: Path
    seconds: float
    text: str = ""
    kind: str = ""
    blocks: int = 0
    pages: int = 0
    refusal: str = ""


def run(bench: Bench) -> SuiteReport:
    """The table, then the passages."""
    root, files = given(os.environ.get(DATA_VARIABLE, ""))
    if bench.quick:
        files = [path for path in files if path.stat().st_size <= QUICK_BYTES_MAX]
    bench.say(f"reading {len(files)} files")
    readings = asyncio.run(read_all(files))
    bench.say("ingesting them, to compare passages with what was read")
    passages, exact = compared(bench.client, readings)
    hostile = [one.seconds for one in readings if "hostile" in one.path.parent.name]
    targets = [Target("corpus_exact_quotes_share", exact / max(1, passages))]
    if hostile:
        targets.append(Target("corpus_slowest_hostile_s", max(hostile)))
    return SuiteReport(
        suite="ingest",
        setting={"corpus": f"{len(files)} files"},
        figures=[
            *(figure(one, root) for one in readings),
            Figure("files parsed", sum(not one.refusal for one in readings), ""),
            Figure("files refused", sum(bool(one.refusal) for one in readings), ""),
            Figure("passages", passages, "", f"{exact} of them are the text at their span"),
        ],
        targets=targets,
    )


def given(data: str) -> tuple[Path, list[Path]]:
    """The folder of the corpus, and all files in it that are not about it."""
    there = Path(data) / "parser-docs"
    root = there if data and there.is_dir() else CORPUS / "files"
    files = sorted(path for path in root.rglob("*") if path.is_file())
    about = ("SOURCE.md", "LICENSE.md", "MANIFEST.tsv")
    return root, [path for path in files if path.name not in about]


async def read_all(files: Sequence[Path]) -> list[Reading]:
    """What a node's parser makes of them, one after the other."""
    settings = DocumentSettings()
    parser, office = Parser(settings), Office(settings)
    try:
        return [await _read(parser, office, path, data) for path, data in _contents(files)]
    finally:
        await parser.close()


def _contents(files: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    for path in files:
        yield path, path.read_bytes()


async def _read(parser: Parser, office: Office, path: Path, data: bytes) -> Reading:
    begin_s = time.perf_counter()
    text = kind = ""
    blocks = pages = 0
    try:
        data, kind = await _saved_anew(office, data, path.name)
        async with contextlib.aclosing(parser.parse(data, path.name, "")) as sections:
            async for parsed in sections:
                text += parsed.text
                blocks += len(parsed.blocks)
                kind, pages = kind or parsed.media_type, parsed.page_count
    except Refusal as error:
        return Reading(path, time.perf_counter() - begin_s, refusal=error.message)
    return Reading(path, time.perf_counter() - begin_s, text, kind, blocks, pages)


async def _saved_anew(office: Office, data: bytes, name: str) -> tuple[bytes, str]:
    """As `services.documents.originals` does for a node."""

    async def one() -> AsyncIterator[bytes]:
        yield data

    with contextlib.suppress(Refusal):
        kind = detect(data, name)
        if office.converts(kind):
            return await office.convert(kind, one(), len(data)), kind
    return data, ""


def compared(client: Client, readings: Sequence[Reading]) -> tuple[int, int]:
    """How many passages a mesh makes of the files that are read, and how many of them are exactly
    the text at their span."""
    client.create_collection(COLLECTION)
    jobs = [
        (one, client.upload_document(COLLECTION, one.path, lane="bulk"))
        for one in readings
        if not one.refusal
    ]
    passages = exact = 0
    for one, stored in jobs:
        try:
            client.wait_for_ingest_job(stored.ingest_job.name)
        except RagmeshError as error:
            raise AssertionError(f"{one.path.name} was read here and not there: {error}") from error
        for passage in client.list_passages(stored.document.name):
            passages += 1
            exact += passage.text == one.text[passage.span.start : passage.span.end]
    return passages, exact


def figure(one: Reading, root: Path) -> Figure:
    """A row of the table."""
    name = str(one.path.relative_to(root))
    if one.refusal:
        reason = " ".join(one.refusal.split()).replace("|", "/").partition(". Convert it")[0]
        return Figure(name, 0, "", f"refused: {reason[:_REASON_CHARS]} · {one.seconds:.2f} s")
    pages = f" · {one.pages} pages" if one.pages else ""
    note = (
        f"{'.'.join(one.kind.split('.')[-2:])} · {one.blocks} blocks{pages} · {one.seconds:.2f} s"
    )
    return Figure(name, len(one.text), "characters", note)
