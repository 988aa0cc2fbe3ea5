"""`doctor` finds what is here, says how, changes nothing, and has advice for what is not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from engine.documents.formats import ocr
from services.local import check
from services.local.check import examine


def test_a_machine_that_runs_these_tests_has_all_it_needs(tmp_path: Path) -> None:
    findings = examine(tmp_path / "new" / "data")
    assert [finding for finding in findings if finding.needed and not finding.ok] == []
    said = {finding.name: finding.detail for finding in findings}
    assert "PostgreSQL) 1" in said["PostgreSQL"]
    assert "v=6.2" in said["Redis"]
    assert said["Envoy"].startswith("1.")
    assert "CPUExecutionProvider" in said["onnxruntime"]
    assert said["character recognition"].startswith("eng")
    assert os.listdir(tmp_path) == []


def test_everything_missing_comes_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(check, "DISK_FREE_BYTES_MIN", 1 << 62)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        findings = examine(tmp_path, {"gateway": server.getsockname()[1], "node": 0})
    missing = {finding.name: finding for finding in findings if not finding.ok}
    assert {"C++ compiler", "disk", "port gateway"} <= set(missing)
    assert all(finding.advice for finding in missing.values())
    assert not any(finding.advice for finding in findings if finding.ok)
    assert "port node" not in {finding.name for finding in findings}


def test_what_only_some_files_need_is_told_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocr, "_PLACES", ())
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    found = {finding.name: finding for finding in examine(tmp_path)}
    for name, says in (("character recognition", "scanned pages fail"), ("LibreOffice", ".doc")):
        assert not found[name].ok and not found[name].needed
        assert says in found[name].detail and "apt" in found[name].advice
    program = tmp_path / "soffice"
    program.write_text("#!/bin/sh")
    program.chmod(0o755)
    (tmp_path / "eng.traineddata").write_bytes(b"some")
    monkeypatch.setenv("PATH", str(tmp_path))
    ocr.use_data("")
    found = {finding.name: finding for finding in examine(tmp_path)}
    assert found["character recognition"].detail == f"eng in {tmp_path}"
    assert str(program) in found["LibreOffice"].detail
    monkeypatch.undo()
    ocr.use_data("")
