"""Parses files in confined processes that are replaced when they misbehave or have served long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from engine import errors
from engine.documents.parsed import Parsed
from engine.errors import (
    DocumentUnreadable,
    ParserLimitExceeded,
    RagmeshError,
    ServiceUnavailable,
)
from services.config import DocumentSettings
from services.documents.parse_worker import ERROR

FRAME_BYTES_MAX = 16 << 20
"""The largest section taken from a parser: 1,000,000 characters as escaped JSON are 12 MB at the
most, and what is said of 20,000 blocks takes 3 MB."""

CPU_S_OF_MIB = 0.5
"""CPU time that a file may take beyond what every file may, for each MiB of it."""

START_S = 60.0
"""How long a process may take to be ready for its first file: half a second of imports, on a
machine that is busy with other things. It is not taken from the file's own time."""

_CRASHES = frozenset((signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP))
"""Signals of bugs, which damaged files find. Limits end a process by SIGKILL and SIGXCPU, and by
SIGABRT: that is how PDFium, Rust and C++ end where they get no memory."""


class Parser:
    """One confined process at a time, started when it is first needed. For one job at a time."""

    def __init__(self, settings: DocumentSettings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._jobs = 0
        self._lock = asyncio.Lock()

    async def parse(
        self,
        data: bytes | AsyncIterator[bytes],
        name: str,
        media_type: str,
        *,
        size_bytes: int | None = None,
    ) -> AsyncGenerator[Parsed, None]:
        """The sections of a file's text (`engine.documents.sections`), as they are parsed. The
        file's `size_bytes` have to be given where it comes in pieces. Who stops before the last
        one closes the generator.

        Raises DocumentUnreadable, ParserLimitExceeded, UnsupportedMediaType, ServiceUnavailable
        where no process could be started, which is not the file's fault, and what `data` raises.
        """
        async with self._lock:
            if isinstance(data, bytes):
                size_bytes, data = len(data), _one(data)
            assert size_bytes is not None
            try:
                process = await self._running()
                job = _Job(self._settings, name, media_type, size_bytes)
                await _send(process, job, data)
                async for section in _sections(process, job):
                    yield section
            except _Refused as refused:
                # What a file that took all the memory left behind is not the next one's to bear.
                await self._served(end=isinstance(refused.error, ParserLimitExceeded))
                raise refused.error from None
            except BaseException:
                await self._end()
                raise
            await self._served(end=False)

    async def _served(self, *, end: bool) -> None:
        self._jobs += 1
        if end or self._jobs >= self._settings.parser_jobs_max:
            await self._end()

    async def close(self) -> None:
        """Ends the process, and the job in it."""
        await self._end()

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._jobs = 0
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                # -P: a folder named `services` in the working directory is not ours.
                *("-P", "-m", "services.documents.parse_worker"),
                *(str(self._settings.parser_memory_bytes), str(os.getpid()), ocr_data()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=1 << 20,
                env=_environment(),
            )
            await _ready(self._process)
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def ocr_data() -> str:
    """Where the environment says that language data of character recognition is; may be empty."""
    return os.environ.get("TESSDATA_PREFIX", "")


class Parsers:
    """The parsers of a node: so many files are parsed at once, others wait."""

    def __init__(self, settings: DocumentSettings) -> None:
        self._all = [Parser(settings) for _ in range(settings.parsers)]
        self._free = asyncio.LifoQueue[Parser]()
        for parser in self._all:
            self._free.put_nowait(parser)

    @contextlib.asynccontextmanager
    async def free(self) -> AsyncIterator[Parser]:
        """A parser for one file. The one that was used last comes first: it is warm."""
        parser = await self._free.get()
        try:
            yield parser
        finally:
            self._free.put_nowait(parser)

    async def close(self) -> None:
        """Ends all processes."""
        for parser in self._all:
            await parser.close()


def _environment() -> dict[str, str]:
    """Nothing of ours: the environment holds URLs with passwords. One thread is what a parser
    may use."""
    given = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"}
    return given | {"OMP_THREAD_LIMIT": "1", "OPENBLAS_NUM_THREADS": "1"}


async def _ready(process: asyncio.subprocess.Process) -> None:
    """Waits for the empty frame that says that the process takes files."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            await process.stdout.readexactly(4)
    except TimeoutError as error:
        raise ServiceUnavailable(
            f"The parser process did not start within {START_S:g} s. The machine is too busy.",
            metadata={"start_s": START_S},
        ) from error
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        code = await process.wait()
        raise ServiceUnavailable(
            f"The parser process ended as it started (exit status {code}). If it does so again, "
            "give it more memory: RAGMESH_DOCUMENTS__PARSER_MEMORY_BYTES.",
            metadata={"exit_status": code},
        ) from error


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


@dataclass(frozen=True, slots=True)
class _Job:
    """One file, and what it may take."""

    settings: DocumentSettings
    name: str
    media_type: str
    size_bytes: int

    @property
    def cpu_s(self) -> int:
        return self.settings.parser_cpu_s + int(CPU_S_OF_MIB * (self.size_bytes >> 20))

    @property
    def wall_s(self) -> float:
        return self.settings.parser_wall_s + 2 * CPU_S_OF_MIB * (self.size_bytes >> 20)

    @property
    def head(self) -> bytes:
        said = {"name": self.name, "media_type": self.media_type, "cpu_s": self.cpu_s}
        return json.dumps(said).encode()


class _Refused(Exception):
    """The process said why a file cannot be parsed, and can take another one."""

    def __init__(self, error: RagmeshError) -> None:
        super().__init__(error.message)
        self.error = error


async def _send(process: asyncio.subprocess.Process, job: _Job, data: AsyncIterator[bytes]) -> None:
    """Hands a file over, as fast as it comes: a slow object store is not the file's fault."""
    assert process.stdin is not None
    head = job.head
    process.stdin.write(struct.pack("<I", len(head)) + head + struct.pack("<I", job.size_bytes))
    try:
        async for piece in data:
            process.stdin.write(piece)
            await process.stdin.drain()
    except ConnectionError as error:
        raise await _died(process, job) from error


async def _sections(process: asyncio.subprocess.Process, job: _Job) -> AsyncGenerator[Parsed, None]:
    """What a parser answers. The time that the caller takes between sections is not the file's."""
    left_s = job.wall_s
    while True:
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                frame = await _frame(process)
        except TimeoutError as error:
            raise ParserLimitExceeded(
                f"The file was not parsed within {job.wall_s:g} s.",
                metadata={"wall_s": job.wall_s},
            ) from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise await _died(process, job) from error
        if not frame:
            return
        if frame[:1] == ERROR:
            raise _Refused(_error(frame[1:]))
        left_s -= time.monotonic() - begun_s
        yield Parsed.from_json(frame[1:])


async def _died(process: asyncio.subprocess.Process, job: _Job) -> DocumentUnreadable:
    """Why a file is not read whose parser ended with an exit status, minus a signal's number."""
    code = await process.wait()
    metadata: dict[str, str | int | float] = {"exit_status": code}
    cpu_s, memory_mib = job.cpu_s, job.settings.parser_memory_bytes >> 20
    limits = {"cpu_s": cpu_s, "memory_bytes": job.settings.parser_memory_bytes}
    if code == -signal.SIGABRT:
        return ParserLimitExceeded(
            f"The parser crashed on the file (SIGABRT): it asks for more memory than a parser has "
            f"({memory_mib} MiB), or is damaged. Save it again in the program that made it.",
            metadata=metadata | limits,
        )
    if code >= 0 or -code in _CRASHES:
        said = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
        return DocumentUnreadable(
            f"The parser crashed on the file ({said}): it is damaged in a way that a parser "
            "library does not survive. Save it again in the program that made it.",
            metadata=metadata,
        )
    return ParserLimitExceeded(
        f"The parser was ended by the system (exit status {code}): the file needs more than "
        f"{cpu_s} s of CPU time or {memory_mib} MiB of memory.",
        metadata=metadata | limits,
    )


async def _frame(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    (size,) = struct.unpack("<I", await process.stdout.readexactly(4))
    if size > FRAME_BYTES_MAX:
        raise ParserLimitExceeded(
            f"A section of the file's text takes {size:,} bytes; at most {FRAME_BYTES_MAX:,} are "
            "taken.",
            metadata={"bytes": size, "bytes_max": FRAME_BYTES_MAX},
        )
    return await process.stdout.readexactly(size)


def _error(said: bytes) -> RagmeshError:
    try:
        answer: dict[str, object] = json.loads(said)
        kind = getattr(errors, str(answer["error"]), DocumentUnreadable)
        metadata = answer.get("metadata")
        return_kind = kind if issubclass(kind, RagmeshError) else DocumentUnreadable
        error: RagmeshError = return_kind(
            str(answer["message"]),
            field=str(answer.get("field", "")),
            metadata=metadata if isinstance(metadata, dict) else {},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return DocumentUnreadable("The parser gave no answer that can be read.")
    return error
