"""What the largest files take on their way to passages: a text of 200 MB, a PDF of 1,000 pages.

Parsing in a confined process and chunking with the model's own tokenizer, in a process of their own
whose memory is looked up at its end. Embedding is left out: it holds one request at a time, and
takes an hour for 200 MB on two cores.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from textwrap import wrap

import psutil

from benchmarks.bench import Bench
from benchmarks.data import Text
from benchmarks.processes import peak_rss_kib
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.suites.ingest.material import abstracts
from engine.documents.chunk import CONTEXT_TOKENS_MAX, chunk
from engine.models import default, model_dir
from engine.models.tokenize import TextTokenizer
from services.config import DocumentSettings
from services.documents.parser import Parser

TEXT_BYTES, PAGES = 200_000_000, 1_000
QUICK_TEXT_BYTES, QUICK_PAGES = 4_000_000, 20
_PIECE_BYTES = 1 << 20
_LINES_OF_PAGE = 56


@dataclass(frozen=True, slots=True)
class Taken:
    """What a file took. Memory is the sum of two peaks: of the process that chunks, which has no
    service in it, and of the parser."""

    seconds: float
    characters: int
    sections: int
    passages: int
    memory_mb: float


def run(bench: Bench) -> SuiteReport:
    """Raises DataMissing without SciFact."""
    texts = abstracts(quick=bench.quick)
    text_bytes = QUICK_TEXT_BYTES if bench.quick else TEXT_BYTES
    pages = QUICK_PAGES if bench.quick else PAGES
    figures, targets = [], []
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder:
        for name, path in (
            ("text", _text(Path(folder) / "long.txt", texts, text_bytes)),
            ("pdf", _pdf(Path(folder) / "long.pdf", texts, pages)),
        ):
            size_mb = path.stat().st_size / 1e6
            bench.say(f"parsing and chunking {path.name}, {size_mb:.1f} MB")
            taken = _apart(path)
            note = f"{taken.sections} sections, {taken.passages:,} passages"
            figures += [
                Figure(f"{path.name}", size_mb, "MB", note),
                Figure(f"{path.name}: parsed and chunked", taken.seconds, "s"),
                Figure(f"{path.name}: text", taken.characters / 1e6, "million characters"),
            ]
            targets.append(Target(f"ingest_large_{name}_mb", taken.memory_mb))
    return SuiteReport("ingest", {"pages of the PDF": pages}, figures, (), targets)


def _apart(path: Path) -> Taken:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_take, args=(path, theirs))
    process.start()
    theirs.close()
    try:
        taken: Taken = ours.recv()
    finally:
        process.join()
    return taken


def _take(path: Path, answer: Connection) -> None:
    answer.send(asyncio.run(_taken(path, path.stat().st_size)))


async def _taken(path: Path, size_bytes: int) -> Taken:
    tokenizer = TextTokenizer(model_dir.read(default.directory()))
    parser = Parser(DocumentSettings())
    begin_s = time.perf_counter()
    characters = sections = passages = 0
    parsing = parser.parse(_pieces(path), path.name, "", size_bytes=size_bytes)
    async with aclosing(parsing) as found:
        async for section in found:
            chunks = chunk(section, tokenizer.count, context_tokens_max=CONTEXT_TOKENS_MAX)
            characters += len(section.text)
            sections += 1
            passages += len(chunks)
    seconds = time.perf_counter() - begin_s
    ours = psutil.Process()
    peaks = [peak_rss_kib(one.pid) for one in (ours, *ours.children(recursive=True))]
    assert len(peaks) > 1, "the parser has ended; its memory cannot be looked up"
    await parser.close()
    kib = sum(peaks)
    return Taken(seconds, characters, sections, passages, kib * 1024 / 1e6)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _text(path: Path, texts: Iterable[Text], size_bytes: int) -> Path:
    """Abstracts one after the other, numbered so that no two are alike."""
    material = list(texts)
    with path.open("wb") as file:
        number = 0
        while file.tell() < size_bytes:
            one = material[number % len(material)]
            file.write(f"{number}. {one.title}\n\n{one.text}\n\n".encode())
            number += 1
    return path


def _pdf(path: Path, texts: Iterable[Text], pages: int) -> Path:
    """Pages of Helvetica, as plain as a PDF can be."""
    lines = _lines(texts)
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", font]
    kids = []
    for _ in range(pages):
        drawn = b"\n".join(
            b"BT /F1 10 Tf 60 %d Td (%s) Tj ET" % (780 - 13 * row, next(lines))
            for row in range(_LINES_OF_PAGE)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    path.write_bytes(out + head + table + tail + b"startxref\n%d\n%%%%EOF\n" % len(out))
    return path


def _lines(texts: Iterable[Text]) -> Iterator[bytes]:
    """Lines of about a page's width, for ever, as strings of a PDF."""
    material = list(texts)
    while True:
        for one in material:
            for line in wrap(f"{one.title}. {one.text}", 95):
                escaped = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
                yield escaped.encode("cp1252", "replace")
