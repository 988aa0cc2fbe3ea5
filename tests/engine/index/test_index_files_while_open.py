"""What becomes of a mapped file that somebody changes. One that is deleted or replaced stays as it
was for whoever has it open. One that is cut in place ends its readers with SIGBUS, which is why
nobody may write to it; and whoever opens it afterwards is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataLoss
from engine.index.files import Written, read_arrays, write_arrays

NUMBERS = np.arange(1 << 20, dtype=np.int64)
READER = """
import sys
from pathlib import Path
from engine.index.files import read_arrays
arrays = read_arrays(Path(sys.argv[1])).arrays
print("open", flush=True)
sys.stdin.readline()
print(int(arrays["numbers"].sum()), flush=True)
"""


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return write_arrays(tmp_path / "file", {"numbers": NUMBERS}, {})


def reader(path: Path) -> subprocess.Popen[str]:
    """A process that has the file open, and reads it when it is told."""
    found = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert found.stdout is not None and found.stdout.readline() == "open\n"
    return found


def test_nobody_may_write_to_a_file_that_is_whole(written: Written) -> None:
    assert written.path.stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_goes_stays_for_those_who_have_it_open(written: Written, how: str) -> None:
    process = reader(written.path)
    written.path.unlink()
    if how == "replaced":
        written.path.write_bytes(b"something else")
    out, _ = process.communicate("\n", timeout=60)
    assert (process.returncode, int(out)) == (0, int(NUMBERS.sum()))


def test_a_file_that_is_cut_in_place_ends_its_readers_and_is_found_afterwards(
    written: Written,
) -> None:
    process = reader(written.path)
    written.path.chmod(0o600)
    os.truncate(written.path, 4096)
    out, _ = process.communicate("\n", timeout=60)
    assert (process.returncode, out) == (-signal.SIGBUS, "")
    with pytest.raises(DataLoss):
        read_arrays(written.path)
