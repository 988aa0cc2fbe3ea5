"""The demo, with a slice of its corpus."""

from __future__ import annotations

from pathlib import Path

from tests.services.commands.command_line import result, run


def test_the_demo_answers_over_both_transports_with_verified_quotes_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    report = result(run(tmp_path, "demo", "--json", "--limit", "8"))
    asked = report["questions"]
    assert {one["transport"] for one in asked} == {"gRPC", "REST"}
    assert len(asked) == 2 * report["counts"]["questions"]
    cited = [one for one in asked if one["citations"]]
    assert cited
    for one in asked:
        assert set(one["timings"]) == {
            *("search_ms", "context_ms", "generate_ms", "check_ms", "total_ms")
        }
        assert bool(one["abstention"]) != bool(one["answer"])
        for citation in one["citations"]:
            assert citation["span"][1] - citation["span"][0] == len(citation["quote"])
            assert citation["document"].startswith("collections/demo/documents/")
    counts = report["counts"]
    assert counts["documents"] == 8 + 4
    assert counts["quotes_verified"] == counts["citations"] > 0
    assert set(report["seconds"]) == {"start", "ingest", "ask", "stop", "total"}
    assert report["problems"] == []
    assert list(tmp_path.glob("ragmesh-demo-*")) == []
