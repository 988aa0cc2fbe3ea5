"""A parser that eats memory or time, hangs or crashes fails its own document and nothing else; it
knows no secrets, is replaced after so many files, and dies with its node."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import zlib
from collections.abc import AsyncIterator, Callable
from functools import cache

import psutil
import pytest
import pytest_asyncio
import ragmesh

from engine.errors import DocumentUnreadable, ParserLimitExceeded
from services.config import DocumentSettings
from services.documents.parser import Parser
from tests.faults.faulty_mesh import MEMORY_BYTES, NODES, FaultyMesh, until
from tests.faults.parsing import text_by

SETTINGS = DocumentSettings(
    parser_memory_bytes=MEMORY_BYTES, parser_cpu_s=1, parser_wall_s=3.0, parser_jobs_max=3
)
GOOD = b"# A heading\n\nA sentence that can be read."


def many_elements() -> bytes:
    """HTML whose tree needs far more memory than its bytes."""
    return b"<html><body>" + b"<b>x</b>" * 2_000_000 + b"</body></html>"


def deep_elements() -> bytes:
    """HTML that is nested deeper than any reader's stack."""
    return b"<html><body>" + b"<div><p>a " * 200_000


@cache
def bomb_pdf() -> bytes:
    """A PDF whose one page draws for ever: it unpacks to 300 MB of operators."""
    packer = zlib.compressobj(9)
    piece = b"BT /F1 9 Tf (slow) Tj ET\n" * 40_000
    stream = b"".join([*(packer.compress(piece) for _ in range(300)), packer.flush()])
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R"
        b"/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    file, offsets = io.BytesIO(b"%PDF-1.7\n"), []
    file.seek(0, io.SEEK_END)
    for number, body in enumerate(objects, start=1):
        offsets.append(file.tell())
        file.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = file.tell()
    file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    file.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    file.write(b"trailer<</Root 1 0 R/Size %d>>\nstartxref\n%d\n" % (len(objects) + 1, start))
    file.write(b"%%EOF\n")
    return file.getvalue()


SAID = {"PATH", "LANG", "LC_CTYPE", "OMP_THREAD_LIMIT", "OPENBLAS_NUM_THREADS"}
"""All that a parser's environment may hold."""

NOT_OURS: set[int] = set()
"""Parser processes of a node that other tests run in this process."""


@pytest_asyncio.fixture
async def parser() -> AsyncIterator[Parser]:
    NOT_OURS.clear()
    NOT_OURS.update(process.pid for process in processes(os.getpid()))
    made = Parser(SETTINGS)
    yield made
    await made.close()


def processes(parent: int) -> list[psutil.Process]:
    """The parser processes of a node, or of this process."""
    return [
        child
        for child in psutil.Process(parent).children()
        if child.pid not in NOT_OURS and "services.documents.parse_worker" in child.cmdline()
    ]


async def _started(parent: int) -> psutil.Process:
    async def there() -> bool:
        return bool(processes(parent))

    await until(there, 20, "a parser process")
    return processes(parent)[0]


@pytest.mark.parametrize(
    ("name", "make"),
    [("many.html", many_elements), ("deep.html", deep_elements), ("bomb.pdf", bomb_pdf)],
)
async def test_a_file_that_takes_too_much_is_refused_and_the_next_is_read(
    parser: Parser, name: str, make: Callable[[], bytes]
) -> None:
    with pytest.raises(ParserLimitExceeded):
        await text_by(parser, make(), name)
    parsed = await text_by(parser, GOOD, "good.md")
    assert "A sentence that can be read." in parsed


@pytest.mark.parametrize("memory_mib", [256, 257])
async def test_a_page_is_read_whole_or_not_at_all(memory_mib: int) -> None:
    """With so much memory libxml2 ends after 65,534 of these elements, and says nothing."""
    settings = DocumentSettings(parser_memory_bytes=memory_mib << 20)
    parser = Parser(settings)
    with pytest.raises(ParserLimitExceeded):
        await text_by(parser, many_elements(), "many.html")
    await parser.close()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, r"crashed on the file \(SIGSEGV\)"),
        (signal.SIGABRT, r"crashed on the file \(SIGABRT\): it asks for more memory"),
        (signal.SIGKILL, "more than 1 s of CPU time or"),
        (signal.SIGXCPU, "more than 1 s of CPU time or"),
        (signal.SIGSTOP, "not parsed within 3 s"),
    ],
)
async def test_a_parser_that_crashes_or_hangs_is_replaced_and_the_reason_is_true(
    parser: Parser, number: int, reason: str
) -> None:
    await text_by(parser, GOOD, "good.md")
    process = processes(os.getpid())[0]
    process.send_signal(signal.SIGSTOP)
    parsing = asyncio.create_task(text_by(parser, GOOD, "good.md"))
    await asyncio.sleep(0.1)
    if number != signal.SIGSTOP:
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
    with pytest.raises(DocumentUnreadable, match=reason) as refused:
        await parsing
    assert isinstance(refused.value, ParserLimitExceeded) == (number != signal.SIGSEGV)
    assert await text_by(parser, GOOD, "good.md")
    assert not process.is_running()


async def test_a_parser_is_replaced_after_so_many_files(parser: Parser) -> None:
    pids = []
    for _ in range(2 * SETTINGS.parser_jobs_max):
        parsing = asyncio.create_task(text_by(parser, GOOD, "good.md"))
        pids.append((await _started(os.getpid())).pid)
        await parsing
    assert len(set(pids)) == 2
    assert processes(os.getpid()) == []


async def test_hostile_files_fail_alone_in_a_node_and_parsers_die_with_it(
    mesh: FaultyMesh,
) -> None:
    async with mesh.client(timeout_s=60) as client:
        await client.create_collection("hostile")
        hostile = {
            "many.html": await client.upload_document(
                "hostile", io.BytesIO(many_elements()), display_name="many.html"
            ),
            "bomb.pdf": await client.upload_document(
                "hostile", io.BytesIO(bomb_pdf()), display_name="bomb.pdf"
            ),
        }
        good = [
            await client.create_document("hostile", data=GOOD, display_name=f"good-{n}.md")
            for n in range(3)
        ]
        for stored in hostile.values():
            with pytest.raises(ragmesh.ParserLimitExceeded):
                await client.wait_for_ingest_job(stored.ingest_job.name)
            assert (await client.get_document(stored.document.name)).state == "failed"
        for stored in good:
            assert (await client.wait_for_ingest_job(stored.ingest_job.name)).state == "succeeded"
    alive = [process for name in NODES for process in processes(mesh.pid(name))]
    assert alive
    for process in alive:
        assert set(process.environ()) <= SAID
    name = next(n for n in NODES if processes(mesh.pid(n)))
    orphans = processes(mesh.pid(name))
    dead = mesh.kill(name)

    async def gone() -> bool:
        return not any(process.is_running() for process in orphans)

    await until(gone, 2, "the killed node's parsers are gone")
    await mesh.lives_again(name, dead)


async def test_the_time_that_a_caller_takes_between_sections_is_not_the_files() -> None:
    parser = Parser(DocumentSettings(parser_wall_s=4.0))
    data = b"A sentence of a long text. Another one.\n\n" * 60_000
    count = 0
    async with contextlib.aclosing(parser.parse(data, "long.txt", "")) as sections:
        async for _ in sections:
            count += 1
            if count < 3:
                await asyncio.sleep(4.0)
    await parser.close()
    assert count > 2
