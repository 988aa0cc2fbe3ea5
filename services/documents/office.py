"""Old office files (.doc, .ppt) saved anew by LibreOffice, where it is installed.

LibreOffice runs in a process group of its own for each file (`office_worker` has the confinement),
one at a time, and what it writes goes to the confined parser as any other file does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Final

from engine.documents.formats import DOC, PPT
from engine.errors import DocumentUnreadable, ParserLimitExceeded, ServiceUnavailable
from services.config import DocumentSettings
from services.documents.office_worker import Task

KINDS: Final[Mapping[str, tuple[str, str, str]]] = {
    DOC: ("MS Word 97", "doc", "docx"),
    PPT: ("MS PowerPoint 97", "ppt", "pptx"),
}
"""What is converted, by media type: LibreOffice's name for it, the ending it has, and the one it
gets."""

FILE_BYTES_MAX: Final = 64 << 20
"""Of a file before and after."""

MEMORY_BYTES: Final = 2 << 30
"""Address space of LibreOffice. With less than 512 MiB it does not start."""

GRACE_S: Final = 10.0
"""For starting the process that watches LibreOffice, and for tidying up behind it."""


def find_office() -> str:
    """The path of LibreOffice, empty where there is none."""
    return shutil.which("soffice") or shutil.which("libreoffice") or ""


class Office:
    """LibreOffice for one node: one file after the other."""

    def __init__(self, settings: DocumentSettings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()

    def converts(self, media_type: str) -> bool:
        """Whether files of this kind can be converted here."""
        return media_type in KINDS and bool(find_office())

    async def convert(self, media_type: str, data: AsyncIterator[bytes], size_bytes: int) -> bytes:
        """The file in today's format.

        Raises ParserLimitExceeded for what is too large or takes too much, DocumentUnreadable for
        what LibreOffice cannot open, ServiceUnavailable where it did not start, and what `data`
        raises.
        """
        if size_bytes > FILE_BYTES_MAX:
            raise ParserLimitExceeded(
                f"The file has {size_bytes:,} bytes; of this kind at most {FILE_BYTES_MAX:,} are "
                "converted. Save it in a newer format.",
                metadata={"size_bytes": size_bytes, "bound": FILE_BYTES_MAX},
            )
        async with self._lock:
            head, out = await self._ask(self._task(media_type), data, size_bytes)
        if out:
            return out
        raise _not_converted(str(head["ended"]), int(head["exit_status"]), self._settings)

    def _task(self, media_type: str) -> Task:
        reader, source, target = KINDS[media_type]
        return Task(
            find_office(),
            reader,
            source,
            target,
            wall_s=self._settings.parser_wall_s,
            cpu_s=self._settings.parser_cpu_s,
            memory_bytes=MEMORY_BYTES,
            bytes_max=FILE_BYTES_MAX,
        )

    async def _ask(
        self, task: Task, data: AsyncIterator[bytes], size_bytes: int
    ) -> tuple[dict[str, str | int], bytes]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "services.documents.office_worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LANG": "C.UTF-8", "TMPDIR": tempfile.gettempdir()},
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            head = json.dumps(asdict(task)).encode()
            process.stdin.write(struct.pack("<I", len(head)) + head + struct.pack("<I", size_bytes))
            async for piece in data:
                process.stdin.write(piece)
                await process.stdin.drain()
            async with asyncio.timeout(task.wall_s + GRACE_S):
                said = json.loads(await _frame(process.stdout))
                return said, await _frame(process.stdout)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            raise ServiceUnavailable(
                "The process that watches LibreOffice gave no answer; the machine is too busy.",
                metadata={"wall_s": task.wall_s},
            ) from error
        finally:
            await _end(process)


async def _frame(source: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack("<I", await source.readexactly(4))
    return await source.readexactly(min(size, FILE_BYTES_MAX))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Closing its input is how the process is told to end LibreOffice; a kill would orphan that."""
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await process.wait()
            return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _not_converted(ended: str, exit_status: int, settings: DocumentSettings) -> DocumentUnreadable:
    said = {
        "wall": f"longer than {settings.parser_wall_s:g} s",
        "disk": f"more than {2 * FILE_BYTES_MAX >> 20} MiB of disk",
        "processes": "more processes than it may start",
    }
    if exit_status == -signal.SIGXCPU:
        ended, said["cpu"] = "cpu", f"more than {settings.parser_cpu_s} s of CPU time"
    metadata: dict[str, str | int | float] = {"ended": ended, "exit_status": exit_status}
    if ended in said:
        return ParserLimitExceeded(
            f"LibreOffice took {said[ended]} to convert the file. Save it in a newer format.",
            metadata=metadata,
        )
    return DocumentUnreadable(
        "LibreOffice could not convert the file, which may be broken or encrypted (exit status "
        f"{exit_status}). Save it in a newer format.",
        metadata=metadata,
    )
