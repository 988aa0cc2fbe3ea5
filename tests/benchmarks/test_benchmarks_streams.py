"""The suite `streams` in small: answers whose readers come and go, over each transport."""

from __future__ import annotations

from benchmarks.bench import Bench, Options
from benchmarks.suites.streams import streams
from benchmarks.suites.streams.readers import Reader


def test_every_reader_gets_every_event_once() -> None:
    with Bench(Options(quick=True), lambda text: None) as bench:
        report = streams(bench)
    found = {target.name: target.value for target in report.targets}
    assert found["streams_readers_without_end"] == 0
    assert found["streams_events_missed"] == 0
    assert found["streams_events_twice"] == 0


def test_what_is_missed_and_what_comes_twice_is_seen() -> None:
    reader = Reader("grpc")
    for number in (1, 2, 4, 4):
        assert not reader.take((number, "delta", ""))
    assert not reader.take((4, "heartbeat", ""))
    assert (reader.missed, reader.twice) == (1, 1)
    assert reader.take((5, "finished", ""))
