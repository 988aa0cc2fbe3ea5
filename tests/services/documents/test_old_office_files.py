"""Old office files become text where LibreOffice is there; whatever it does, it is confined, ends
in time, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from engine.documents.detect import COMPOUND_MAGIC, detect
from engine.documents.formats import DOC, PPT
from engine.documents.parse import parse_document
from engine.errors import DocumentUnreadable, ParserLimitExceeded, UnsupportedMediaType
from services.config import DocumentSettings
from services.documents import office as office_module
from services.documents.office import Office, find_office
from tests.engine.documents.test_formats import ONE
from tests.engine.documents.writers import WRITERS
from tests.services.documents.fake_office import FAULTS, HONEST, NAP_S, install

pytestmark = pytest.mark.asyncio

OLD_WORD = COMPOUND_MAGIC + bytes(600) + "WordDocument\0".encode("utf-16-le") + bytes(600)
"""Enough to be taken for one."""

QUICK = DocumentSettings(parser_cpu_s=2, parser_wall_s=3.0)


@pytest.fixture
def soffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program into the place of LibreOffice."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return lambda does: install(tmp_path / "bin", does)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the directories of LibreOffice are made, and must be gone from."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 16):
        yield data[start : start + (1 << 16)]


async def convert(office: Office, data: bytes = b"old", kind: str = DOC) -> bytes:
    return await office.convert(kind, pieces(data), len(data))


def _left(folder: Path) -> list[str]:
    return os.listdir(folder)


def _running(folder: Path) -> list[int]:
    """Processes of programs that were told to write below a folder."""
    found = psutil.process_iter(["cmdline"])
    return [each.pid for each in found if f"{folder}/" in " ".join(each.info["cmdline"] or [])]


async def test_a_file_comes_back_as_the_program_saved_it(
    soffice: Callable[[str], None], temporary: Path
) -> None:
    soffice(HONEST)
    data = os.urandom(3 << 20)
    assert await convert(Office(QUICK), data) == data
    assert not _left(temporary)


@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_whatever_goes_wrong_fails_the_file_and_leaves_nothing(
    soffice: Callable[[str], None], temporary: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(office_module, "FILE_BYTES_MAX", 8 << 20)
    soffice(FAULTS[fault])
    began_s = time.monotonic()
    with pytest.raises(DocumentUnreadable) as refused:
        await convert(Office(QUICK))
    assert time.monotonic() - began_s < QUICK.parser_wall_s + 30
    taken = fault in ("hangs", "hangs-apart", "starts-many", "writes-many", "burns")
    assert isinstance(refused.value, ParserLimitExceeded) == taken, refused.value
    assert "Save it in a newer format" in refused.value.message
    assert not _left(temporary)
    assert _running(temporary) == [] and not _sleepers()


def _sleepers() -> list[psutil.Process]:
    """What the programs started: they sleep for a time that nobody else does."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if each.info["cmdline"] == ["sleep", NAP_S]]


async def test_a_file_that_is_too_large_is_not_even_read(soffice: Callable[[str], None]) -> None:
    soffice(HONEST)
    with pytest.raises(ParserLimitExceeded, match="67,108,865 bytes"):
        await Office(QUICK).convert(DOC, pieces(b""), office_module.FILE_BYTES_MAX + 1)


async def test_the_program_may_write_nowhere_else_and_reads_no_secret(
    soffice: Callable[[str], None], tmp_path: Path
) -> None:
    """Where the kernel has Landlock; elsewhere the program may what the node may."""
    secret, trace = tmp_path / "secret", tmp_path / "trace"
    secret.write_text("a password")
    soffice(f'{{ cat "$before"; cat {secret}; touch {trace}; }} > "$new" 2> /dev/null; true\n')
    out = await convert(Office(QUICK), b"the file")
    confined = not _landlock_is_missing()
    assert out == b"the file" + (b"" if confined else b"a password")
    assert (trace.name in _left(tmp_path)) != confined


def _landlock_is_missing() -> bool:
    script = "from services.documents.landlock import confine_files as c; exit(not c(None, []))"
    return subprocess.run([sys.executable, "-c", script], check=False).returncode != 0


_NODE = """
import asyncio, sys, tempfile
from services.config import DocumentSettings
from services.documents.office import Office
async def one():
    yield b"old"
tempfile.tempdir = sys.argv[1]
asyncio.run(Office(DocumentSettings()).convert("application/msword", one(), 3))
"""


async def test_the_program_ends_with_a_node_that_is_killed(
    soffice: Callable[[str], None], temporary: Path
) -> None:
    soffice(FAULTS["hangs-apart"])
    node = await asyncio.create_subprocess_exec(sys.executable, "-c", _NODE, str(temporary))
    await _until(lambda: bool(_running(temporary)) and len(_sleepers()) == 2)
    node.send_signal(signal.SIGKILL)
    await node.wait()
    await _until(lambda: not _running(temporary) and not _sleepers())
    await _until(lambda: not _left(temporary))


async def test_the_program_ends_with_a_job_that_is_cancelled(
    soffice: Callable[[str], None], temporary: Path
) -> None:
    soffice(FAULTS["hangs"])
    converting = asyncio.create_task(convert(Office(DocumentSettings())))
    await _until(lambda: bool(_sleepers()))
    converting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await converting
    assert not _running(temporary) and not _sleepers() and not _left(temporary)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.05)


async def test_one_program_runs_at_a_time(soffice: Callable[[str], None]) -> None:
    soffice("sleep 0.3\n" + HONEST)
    office = Office(DocumentSettings())
    converting = [asyncio.create_task(convert(office, bytes([n]))) for n in range(3)]
    most = 0
    while not all(task.done() for task in converting):
        children = psutil.Process().children()
        workers = [c for c in children if "services.documents.office_worker" in c.cmdline()]
        most = max(most, len(workers))
        await asyncio.sleep(0.02)
    assert [task.result() for task in converting] == [b"\x00", b"\x01", b"\x02"]
    assert most == 1


async def test_libreoffice_itself_gives_the_text_where_it_is_found(tmp_path: Path) -> None:
    """Of files that it saved as Word 97 and PowerPoint 97 do, and of a broken one none."""
    program = find_office()
    assert Office(QUICK).converts(DOC) == bool(program)
    if not program:
        return
    office = Office(DocumentSettings())
    for kind, ending, old, made in (
        (DOC, "docx", "doc", WRITERS["docx"](ONE)),
        (PPT, "pptx", "ppt", WRITERS["pptx"](ONE)),
    ):
        (tmp_path / f"one.{ending}").write_bytes(made)
        _save_as_old(program, tmp_path, f"one.{ending}", old)
        data = (tmp_path / f"one.{old}").read_bytes()
        assert detect(data) == kind
        text = parse_document(await convert(office, data, kind)).text
        assert [line for line in ONE.texts() if line not in text] == []
    with pytest.raises(DocumentUnreadable, match="could not convert"):
        await convert(office, b"\xd0\xcf\x11\xe0 no document")


def _save_as_old(program: str, folder: Path, name: str, ending: str) -> None:
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = [program, profile, "--headless", "--convert-to", ending, "--outdir", str(folder)]
    subprocess.run([*command, str(folder / name)], check=True, capture_output=True, timeout=100)


async def test_without_the_program_the_refusal_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not Office(QUICK).converts(DOC)
    with pytest.raises(UnsupportedMediaType, match="apt-get install libreoffice-writer"):
        parse_document(OLD_WORD)
