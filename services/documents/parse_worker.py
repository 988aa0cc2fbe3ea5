"""The process that reads foreign files: `python -m services.documents.parse_worker`.

It has no secrets in its environment, no network where the system lets it give that up, limits on
memory, CPU time, open files and file sizes, and dies with its parent. Frames on standard input and
output are a 4-byte little-endian length and that many bytes. An empty frame says that it takes
files. A job is a frame of JSON {"name", "media_type", "cpu_s"} and a frame with the file. The
answer is a frame for each section of the text and an empty one, or at any place a frame with an
error: JSON {"error", "message", "field", "metadata"}. The first byte of a frame says which it is.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import BinaryIO

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h


def read_frame(source: BinaryIO) -> bytes | None:
    """The next frame; None at the end."""
    head = source.read(4)
    if len(head) < 4:
        return None
    size: int = struct.unpack("<I", head)[0]
    data = source.read(size)
    return data if len(data) == size else None


def write_frame(target: BinaryIO, data: bytes) -> None:
    """Writes one frame."""
    target.write(struct.pack("<I", len(data)))
    target.write(data)
    target.flush()


def leave_network() -> bool:
    """Moves into a network of its own, which has no way out. False where the system does not
    allow it, as in most containers: there the container's own rules are what there is.

    For root a network is enough; others may make one only as the root of a user namespace. Call
    it before there are threads, and before the parent's death is asked for: the change of
    credentials would forget it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def confine(memory_bytes: int, parent: int) -> None:
    """Takes away what a parser does not need. Exits if the parent is gone already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which drains


def allow_cpu(cpu_s: int) -> None:
    """Limits the CPU time of the next job; the kernel ends the process after it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = int(usage.ru_utime + usage.ru_stime) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used_s + cpu_s, hard))


SECTION, ERROR = b"s", b"e"


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answers jobs until the input ends."""
    from engine.documents.sections import parse_in_sections
    from engine.errors import DocumentUnreadable, ParserLimitExceeded, RagmeshError

    write_frame(target, b"")
    while (head := read_frame(source)) is not None and (data := read_frame(source)) is not None:
        job = json.loads(head)
        allow_cpu(job["cpu_s"])
        try:
            for section in parse_in_sections(data, job["name"], job["media_type"]):
                write_frame(target, SECTION + section.to_json().encode())
            end = b""
        except MemoryError:
            end = _failure(ParserLimitExceeded("The file needs more memory than a parser may use."))
        except RagmeshError as error:
            end = _failure(error)
        except Exception as error:
            # A parser library met something it did not expect: the file's fault, not the caller's.
            end = _failure(
                DocumentUnreadable(
                    f"The file cannot be read: {type(error).__name__}.",
                    metadata={"error": type(error).__name__},
                )
            )
        del data  # while the process waits for the next one
        write_frame(target, end)


def _failure(error: Exception) -> bytes:
    return (
        ERROR
        + json.dumps(
            {
                "error": type(error).__name__,
                "message": getattr(error, "message", ""),
                "field": getattr(error, "field", ""),
                "metadata": getattr(error, "metadata", {}),
            }
        ).encode()
    )


def main() -> None:
    """Runs until standard input ends. Arguments: memory in bytes, the parent's process id."""
    leave_network()
    # The model of languages unpacks into a file, and after this the process writes none.
    from engine.documents import language

    language.load()
    confine(int(sys.argv[1]), int(sys.argv[2]))
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a parser library prints must not end up among the frames.
    os.dup2(2, 1)
    serve(source, target)


if __name__ == "__main__":
    main()
