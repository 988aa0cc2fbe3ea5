"""Parts start in the order of their needs, are restarted with patience, and all stop."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ServiceUnavailable
from services.local.process import rotate
from services.local.supervisor import Backoff, Part, PartEvent, Supervisor
from tests.services.local.running import gone

IMPATIENT = Backoff(first_s=0.01, max_s=0.05, healthy_s=30.0)


async def at_once() -> bool:
    return True


async def never() -> bool:
    return False


def shell(tmp_path: Path, name: str, script: str, *needs: str) -> Part:
    return Part(
        name=name,
        argv=lambda: ["sh", "-c", script],
        ready=at_once,
        depends_on=needs,
        log_file=tmp_path / f"{name}.log",
    )


def run(
    parts: list[Part], act: Callable[[Supervisor], Awaitable[None]], backoff: Backoff = IMPATIENT
) -> list[PartEvent]:
    """Start the parts, act, stop them; all events."""
    events: list[PartEvent] = []

    async def main() -> None:
        supervisor = Supervisor(parts, on_event=events.append, backoff=backoff)
        await supervisor.start()
        try:
            await act(supervisor)
        finally:
            await supervisor.stop()

    asyncio.run(main())
    return events


async def nothing(supervisor: Supervisor) -> None:
    assert all(state.ready and state.pid for state in supervisor.states())


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


def test_parts_start_after_their_needs_and_stop_before_them(tmp_path: Path) -> None:
    parts = [
        shell(tmp_path, "gateway", "sleep 60", "node"),
        shell(tmp_path, "node", "sleep 60", "store", "cache"),
        shell(tmp_path, "store", "sleep 60"),
        shell(tmp_path, "cache", "sleep 60"),
    ]
    events = run(parts, nothing)
    order = [(event.kind, event.name) for event in events]
    for part in parts:
        for need in part.depends_on:
            assert order.index(("ready", need)) < order.index(("starting", part.name))
            assert order.index(("stopped", part.name)) < order.index(("stopping", need))
    assert gone([event.pid for event in events if event.pid], 0.5) == []


def test_a_part_that_ignores_the_stop_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = "trap '' TERM; sleep 60 & echo $!; echo up; while :; do sleep 0.05; done"
    part = replace(shell(tmp_path, "stubborn", stubborn), stop_grace_s=0.3)

    async def act(supervisor: Supervisor) -> None:
        await until(lambda: "up" in part.log_file.read_text())

    started_s = time.monotonic()
    events = run([part], act)
    assert "killed" in [event.kind for event in events]
    assert time.monotonic() - started_s < 3
    assert gone([int(part.log_file.read_text().split()[0])], 1.0) == []


def test_nothing_of_a_dead_part_is_left_when_it_lives_again(tmp_path: Path) -> None:
    part = shell(tmp_path, "parent", "sleep 60 & echo $!; wait")
    lines: list[str] = []

    async def act(supervisor: Supervisor) -> None:
        await until(lambda: len(part.log_file.read_text().split()) == 1)
        os.kill(supervisor.states()[0].pid, 9)
        await until(lambda: len(part.log_file.read_text().split()) == 2)
        lines.extend(part.log_file.read_text().split())
        assert gone([int(lines[0])], 1.0) == []
        assert supervisor.states()[0].restarts == 1

    run([part], act)
    assert lines[0] != lines[1]


@pytest.mark.usefixtures("leaves_no_process")
def test_a_part_that_cannot_start_says_its_last_20_lines_and_takes_all_down(
    tmp_path: Path,
) -> None:
    broken = "for i in $(seq 1 30); do echo line $i.; done; exit 3"
    parts = [
        shell(tmp_path, "store", "sleep 60"),
        replace(shell(tmp_path, "broken", broken, "store"), ready=never),
        shell(tmp_path, "node", "sleep 60", "broken"),
    ]
    (tmp_path / "broken.log").write_text("of an earlier run\n")
    with pytest.raises(ServiceUnavailable) as caught:
        run(parts, nothing)
    shown = caught.value.message.splitlines()[1:]
    assert [line.strip() for line in shown] == [f"line {i}." for i in range(11, 31)]
    assert caught.value.metadata["part"] == "broken"
    assert "exit code 3" in caught.value.metadata["problem"]


@pytest.mark.usefixtures("leaves_no_process")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ready": never, "ready_timeout_s": 0.2}, "not ready after 0.2 s"),
        ({"argv": lambda: ["/no/such/program"], "ready": never}, "exit code 1"),
        ({"log_file": Path("/no/such/directory/log")}, "FileNotFoundError"),
    ],
)
def test_every_way_not_to_start_is_an_error_and_never_a_hang(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    part = replace(shell(tmp_path, "part", "sleep 60"), **change)  # type: ignore[arg-type]
    with pytest.raises(ServiceUnavailable, match=said):
        run([part], nothing)


def test_a_crash_loop_is_reported_once_and_tried_on(tmp_path: Path) -> None:
    part = shell(tmp_path, "flaky", f"test -e {tmp_path}/bad && exit 4; sleep 60")

    async def act(supervisor: Supervisor) -> None:
        (tmp_path / "bad").write_text("")
        os.kill(supervisor.states()[0].pid, 9)
        await until(lambda: supervisor.states()[0].restarts >= 8)
        (tmp_path / "bad").unlink()
        restarts = -1

        def settled() -> bool:
            nonlocal restarts
            before, restarts = restarts, supervisor.states()[0].restarts
            return before == restarts and supervisor.states()[0].ready

        await asyncio.sleep(0.2)
        await until(settled)

    loops = [event for event in run([part], act) if event.kind == "crash_loop"]
    assert len(loops) == 1
    assert "exit code 4" in loops[0].detail


def test_a_part_can_be_stopped_and_started_while_the_others_run(tmp_path: Path) -> None:
    parts = [shell(tmp_path, "store", "sleep 60"), shell(tmp_path, "node", "sleep 60", "store")]

    async def act(supervisor: Supervisor) -> None:
        node = supervisor.states()[1].pid
        await supervisor.stop_part("store")
        assert [state.ready for state in supervisor.states()] == [False, True]
        await supervisor.start_part("store")
        assert [state.ready for state in supervisor.states()] == [True, True]
        assert supervisor.states()[1].pid == node

    run(parts, act)


@given(deaths=st.integers(1, 10_000))
def test_pauses_grow_to_their_maximum(deaths: int) -> None:
    backoff = Backoff()
    assert 0.1 <= backoff.pause_s(deaths) <= backoff.pause_s(deaths + 1) <= 5.0


def test_needs_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    one, two = shell(tmp_path, "one", "true", "two"), shell(tmp_path, "two", "true", "one")
    for parts in ([one], [one, one], [one, two]):
        with pytest.raises(ValueError, match=r"one|cycle"):
            Supervisor(parts)


def test_a_log_stays_within_its_bound_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 101)
        assert rotate(log, bytes_max=100)
        assert not rotate(log, bytes_max=100)
        writer.write(b"after")
    assert log.read_bytes() == b"after"
    assert (tmp_path / "part.log.1").read_bytes() == b"x" * 101
