"""What tests of the index share."""

from __future__ import annotations

import pytest

from engine.index import plan


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are walked that are so small that a scan would be cheaper."""
    monkeypatch.setattr(plan, "SCAN_ROW_NS", 1_000.0)
    monkeypatch.setattr(plan, "SCAN_CODES_NS", 1_000.0)
