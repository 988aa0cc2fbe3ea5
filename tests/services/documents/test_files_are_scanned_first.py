"""Where a ClamAV daemon is configured, no file reaches a parser that it has not passed."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import ValidationError

from engine.documents.detect import COMPOUND_MAGIC
from engine.documents.formats import DOC
from engine.errors import DocumentUnreadable, ServiceUnavailable
from services.config import DocumentSettings
from services.documents import clamd as clamd_module
from services.documents.clamd import Clamd
from services.documents.files import Files
from services.documents.originals import Originals
from services.local.check import examine
from services.objects.directory import DirectoryStore
from services.store.collections import Collection
from services.store.store import Store
from tests.services.documents.fake_office import install
from tests.services.documents.given_files import content_of, store_document
from tests.services.documents.scanner import FOUND, MALWARE, Scanner, scanner
from tests.services.store.stored import make_collection

pytestmark = pytest.mark.asyncio


async def pieces(data: bytes, *, size: int = 1 << 20) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest_asyncio.fixture(params=["port", "socket"])
async def daemon(request: pytest.FixtureRequest) -> AsyncIterator[Scanner]:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/clamd" if request.param == "socket" else ""
        async with scanner(path) as made:
            yield made


@pytest.mark.parametrize("size", [1, 100, 262_144, 3_000_001])
async def test_it_sees_the_whole_file_and_finds_what_is_in_it(daemon: Scanner, size: int) -> None:
    clean = os.urandom(size)
    await Clamd(daemon.address).scan(pieces(clean))
    assert daemon.seen == [clean]
    with pytest.raises(DocumentUnreadable, match=FOUND) as refused:
        await Clamd(daemon.address).scan(pieces(clean + MALWARE))
    assert refused.value.metadata["found"] == FOUND


async def test_what_is_larger_than_it_takes_is_refused(daemon: Scanner) -> None:
    daemon.takes_max = 1 << 20
    with pytest.raises(DocumentUnreadable, match="StreamMaxLength"):
        await Clamd(daemon.address).scan(pieces(bytes(30 << 20)))


@pytest.mark.parametrize("says", ["Engine is loading ERROR", "what?", "okay"])
async def test_an_answer_that_is_no_verdict_passes_nothing(daemon: Scanner, says: str) -> None:
    daemon.says = says
    with pytest.raises(ServiceUnavailable, match="no file is parsed without one"):
        await Clamd(daemon.address).scan(pieces(b"clean"))


async def test_a_daemon_that_is_away_hangs_or_hangs_up_passes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clamd_module, "STALL_S", 0.3)
    ended = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    for behave in (hang, hang_up):
        server = await asyncio.start_server(behave, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for data in (b"short", bytes(50 << 20)):
            with pytest.raises(ServiceUnavailable, match="no verdict"):
                await Clamd(address).scan(pieces(data))
        ended.set()
        server.close()
    for nobody in (address, "/nowhere/clamd"):
        with pytest.raises(ServiceUnavailable, match="no verdict"):
            await Clamd(nobody).scan(pieces(b"short"))


async def test_doctor_says_whether_it_answers(daemon: Scanner, tmp_path: Path) -> None:
    for address, there in ((daemon.address, True), ("127.0.0.1:1", False), ("/nowhere", False)):
        findings = await asyncio.to_thread(examine, tmp_path, {}, address)
        [finding] = [finding for finding in findings if finding.name == "ClamAV"]
        assert (finding.ok, bool(finding.advice), finding.needed) == (there, not there, True)


@pytest.mark.parametrize("address", ["clamd", "host:", "host:port", "unix/path"])
async def test_an_address_that_is_none_is_refused_at_the_start(address: str) -> None:
    with pytest.raises(ValidationError):
        DocumentSettings(clamd=address)


@pytest_asyncio.fixture
async def files(store: Store, tmp_path: Path) -> AsyncIterator[Files]:
    objects = DirectoryStore(tmp_path / "objects")
    yield Files(store, objects)
    objects.close()


@pytest_asyncio.fixture
async def collection(store: Store) -> Collection:
    return await make_collection(store, "one", "c")


OLD_WORD = COMPOUND_MAGIC + bytes((1 << 20) - 20) + "WordDocument\0".encode("utf-16-le")
"""The name by which it is told lies across the pieces in which files are read."""


async def test_a_parser_gets_a_file_that_was_passed_whole_and_old_ones_saved_anew(
    store: Store,
    files: Files,
    collection: Collection,
    daemon: Scanner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    install(tmp_path / "bin", '(printf "new "; cat "$before") > "$new"\n')
    originals = Originals(DocumentSettings(clamd=daemon.address), files)
    other = COMPOUND_MAGIC + bytes(2 << 20)
    for number, (data, expected, kind) in enumerate(
        (
            (os.urandom(3 << 20), None, ""),
            (b"", None, ""),
            (other, None, ""),
            (OLD_WORD, b"new " + OLD_WORD, DOC),
        )
    ):
        await store_document(store, files, collection, f"d{number}", data)
        opening = originals.opened("one", content_of(data).sha256, len(data))
        async with opening as original:
            got = b"".join([piece async for piece in original.pieces])
        expected = data if expected is None else expected
        assert (got, original.size_bytes, original.media_type) == (expected, len(expected), kind)
        assert daemon.seen[-1] == data


async def test_a_parser_gets_nothing_of_what_was_not_passed(
    store: Store, files: Files, collection: Collection, daemon: Scanner
) -> None:
    await store_document(store, files, collection, "x", MALWARE)
    sha256, size = content_of(MALWARE).sha256, len(MALWARE)
    for address, error in (
        (daemon.address, DocumentUnreadable),
        ("127.0.0.1:1", ServiceUnavailable),
    ):
        opening = Originals(DocumentSettings(clamd=address), files).opened("one", sha256, size)
        with pytest.raises(error):
            async with opening:
                raise AssertionError("it was opened")


async def test_without_libreoffice_old_files_go_to_the_parser_as_they_are(
    store: Store, files: Files, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    await store_document(store, files, collection, "x", OLD_WORD)
    opening = Originals(DocumentSettings(), files).opened(
        "one", content_of(OLD_WORD).sha256, len(OLD_WORD)
    )
    async with opening as original:
        assert b"".join([piece async for piece in original.pieces]) == OLD_WORD
        assert original.media_type == ""
