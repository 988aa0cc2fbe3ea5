"""The rules of every test: nothing is skipped, what cannot run here fails and says so, and a whole
run is shared out among processes."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests import sharing

# Examples are the same in every run, and no clock of a busy machine decides. Others are looked for
# with `--hypothesis-profile seeking`, as `poe soak` does.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("seeking", parent=settings.get_profile("steady"), derandomize=False)
settings.load_profile("steady")

# As `ragmesh` does: tests run nodes in their own process, which run programs.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skip, or an expected failure, into a failure."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and no test may be: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for files that skip themselves while they are collected."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and no test may be: {report.longrepr}"
    return report


@pytest.hookimpl
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` means."""
    return sharing.processes(config)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> sharing.Sharing:
    """Who runs what."""
    return sharing.Sharing(config, log)


@pytest.hookimpl
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of several, what takes longest comes first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: sharing.place(sharing.unit(item.nodeid)))
