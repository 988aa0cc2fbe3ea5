"""One child process: started tied to us, its exit noticed at once, its whole group ended with it.

The thread that calls `Child.start` must outlive the child (see launch.py): start from the main
thread, or from a thread whose event loop runs as long as the children should.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import FailedPrecondition

LOG_BYTES_MAX = 16 * 1024 * 1024
_LAUNCH = Path(__file__).with_name("launch.py")
_TAIL_BYTES_MAX = 64 * 1024
_TAIL_LINE_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class RunAs:
    """As whom a program runs: `prefix` is put before its command line; `uid` -1 changes nothing.

    `why` is a phrase for people.
    """

    prefix: tuple[str, ...] = ()
    uid: int = -1
    gid: int = -1
    why: str = "as this user"


def own_argv(command: str, *arguments: str) -> list[str]:
    """The command line of one of our own commands, with this interpreter.

    `-P` keeps a folder named `services` in the working directory from being taken for ours.
    """
    return [sys.executable, "-P", "-m", "services.cli", command, *arguments]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours, and more, for a program that we start ourselves."""
    return {**os.environ, **more}


def launch_argv(
    argv: Sequence[str], *, run_as: RunAs | None = None, death_signal: int = signal.SIGKILL
) -> list[str]:
    """The command line that runs `argv` tied to the calling process and thread."""
    who = run_as or RunAs()
    numbers = (os.getpid(), int(death_signal), who.uid, who.gid)
    return [
        *(sys.executable, "-I", "-S", str(_LAUNCH)),
        *(str(number) for number in numbers),
        *who.prefix,
        *argv,
    ]


class Child:
    """A running process and its group. One event loop owns it."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path, log_start: int) -> None:
        self.pid = process.pid
        self._process = process
        self._log_file = log_file
        self._log_start = log_start
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        log_file: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        run_as: RunAs | None = None,
        death_signal: int = signal.SIGKILL,
    ) -> Child:
        """Start `argv` in a session of its own, output appended to `log_file`.

        `env` is added to ours. Raises FailedPrecondition where the system is not Linux.
        """
        if not hasattr(os, "pidfd_open"):
            raise FailedPrecondition(
                f"the embedded mesh needs Linux 5.3 or newer and this is {sys.platform}; "
                "run PostgreSQL, Redis and Envoy yourself and give their addresses",
                metadata={"platform": sys.platform},
            )
        rotate(log_file)
        with open(log_file, "ab", opener=_private) as log:
            process = subprocess.Popen(
                launch_argv(argv, run_as=run_as, death_signal=death_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env} if env else None,
                cwd=cwd,
                start_new_session=True,
            )
            return cls(process, log_file, log.tell())

    @property
    def running(self) -> bool:
        """Whether the process has not been seen to exit."""
        return not self._exit.done()

    async def exited(self) -> int:
        """Wait for the exit; the code, or minus the signal's number."""
        return await asyncio.shield(self._exit)

    def send(self, number: int) -> None:
        """Send a signal to the process itself. Nothing happens where it has exited."""
        if self.running:
            os.kill(self.pid, number)  # not reaped yet, so the id is still its own

    def send_group(self, number: int) -> None:
        """Send a signal to the process and to every process of its group."""
        if self.running:
            self._kill_group(number)

    async def end(self, number: int, grace_s: float) -> bool:
        """Send a signal, wait, then SIGKILL the group. True where the grace was enough."""
        self.send(number)
        try:
            await asyncio.wait_for(self.exited(), grace_s)
        except TimeoutError:
            self.send_group(signal.SIGKILL)
            await self.exited()
            return False
        return True

    def log_tail(self, lines_max: int = 20) -> list[str]:
        """The last lines that this process wrote, each cut at 300 characters."""
        return log_tail(self._log_file, start=self._log_start, lines_max=lines_max)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Before the reaping: while the leader is a zombie, its group's id cannot be reused.
        self._kill_group(signal.SIGKILL)
        self._exit.set_result(self._process.wait())

    def _kill_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def describe_exit(code: int) -> str:
    """How a process ended, in words: "exit code 1", "killed by SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def log_tail(log_file: Path, *, start: int = 0, lines_max: int = 20) -> list[str]:
    """The last lines of a log after the byte `start`, each cut at 300 characters; none where it
    cannot be read."""
    with contextlib.suppress(OSError), log_file.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(start if size >= start else 0, size - _TAIL_BYTES_MAX))
        lines = log.read().decode("utf-8", "replace").splitlines()[-lines_max:]
        return [line[:_TAIL_LINE_CHARACTERS_MAX] for line in lines]
    return []


def rotate(log_file: Path, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Move a log over `bytes_max` to `<name>.1` by copy and truncation; its writers append on."""
    with contextlib.suppress(FileNotFoundError):
        if log_file.stat().st_size > bytes_max:
            shutil.copyfile(log_file, log_file.with_name(log_file.name + ".1"))
            os.truncate(log_file, 0)
            return True
    return False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
