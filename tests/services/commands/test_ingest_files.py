"""What lies on disk is found whatever its names are, and nothing on disk stops an ingestion."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.commands.ingest_files import (
    display_name_of,
    document_id_of,
    find,
    is_below,
    is_gone,
    place_from,
    place_of,
    refusal,
    shown,
    uri_of,
)
from services.commands.ingest_sending import new_item
from services.commands.ingestion import Outcome

ID_FORM = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
NAMES = st.binary(min_size=1, max_size=60).map(
    lambda name: os.fsdecode(name.replace(b"/", b"x").replace(b"\0", b"x"))
)
ODD_NAMES = [b"caf\xe9.txt", b"two\nlines.txt", b"\x1b[31mred.txt", "日本.txt".encode(), b"%41.txt"]


@given(st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4))
def test_a_file_of_any_name_is_known_by_its_place(names: list[str]) -> None:
    place = place_of("/nowhere/" + "/".join(names))
    uri = uri_of(place)
    assert uri.isascii() and uri.isprintable()
    assert place_from(uri) == place
    assert is_below(place, "/nowhere") and not is_below(place, "/no")
    assert re.fullmatch(ID_FORM, document_id_of(place))
    for text in (shown(place), display_name_of(place)):
        assert text.isprintable()
        text.encode()  # can be sent


def test_everything_below_a_folder_is_found_once_and_nothing_is_waited_for(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "below" / ".git").mkdir(parents=True)
    for name in (*ODD_NAMES, b".hidden", b"below/deep.txt", b"below/.git/config"):
        path = os.fsencode(root) + b"/" + name
        with open(path, "wb") as file:
            file.write(b"Some text.")
    os.mkfifo(root / "pipe")
    os.symlink("loop", root / "loop")
    os.symlink(root, root / "below" / "up")
    os.symlink(root / "below" / "deep.txt", root / "link.txt")
    os.symlink(root, tmp_path / "other")
    found = find([root, root / "below", tmp_path / "other", root / "link.txt"])
    places = {os.fsencode(place).removeprefix(os.fsencode(root) + b"/") for place in found.files}
    assert places == {*ODD_NAMES, b"below/deep.txt", b"link.txt"}
    assert all(refusal(file) is None for file in found.files.values())
    assert {(one.reason, Path(one.label).name) for one in found.left_out} == {
        ("NO_FILE", "pipe"),
        ("UNREADABLE", "loop"),
    }
    assert {one.result for one in found.left_out} == {"skipped", "failed"}


def test_what_a_folder_does_not_show_is_not_gone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.symlink("nowhere", tmp_path / "broken")
    assert not is_gone(str(tmp_path / "file"))
    assert not is_gone(str(tmp_path / "broken"))
    assert is_gone(str(tmp_path / "none"))
    assert is_gone(str(tmp_path / "file" / "below"))
    assert not is_gone(str(tmp_path / ("x" * 300))), "the system does not say"


def test_a_search_for_files_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()
    looks = iter([False] * 5)
    assert len(find([tmp_path], lambda: next(looks, True)).files) == 5


class _Mesh:
    """Takes uploads, while somebody writes to the file the first few times."""

    def __init__(self, writes: int) -> None:
        self.writes = writes
        self.sent: list[tuple[bytes, bool]] = []

    async def upload_document(self, collection: str, path: str, **given: Any) -> Any:
        data = await asyncio.to_thread(Path(path).read_bytes)
        if len(self.sent) < self.writes:
            await asyncio.to_thread(Path(path).write_bytes, data + b"more")
        self.sent.append((data, given["replace_existing"]))
        document = SimpleNamespace(name="collections/c/documents/d")
        return SimpleNamespace(document=document, ingest_job=f"job {len(self.sent)}")


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
async def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, writes: int
) -> None:
    path = tmp_path / "growing.txt"
    path.write_bytes(b"text")
    (file,) = find([path]).files.values()
    mesh = _Mesh(writes)
    sent: Any = await new_item("c", file).send(mesh)  # type: ignore[arg-type]
    assert [replace for _, replace in mesh.sent] == [False, True, True][: len(mesh.sent)]
    if writes < 3:
        assert sent == f"job {writes + 1}", "the one that was read in peace"
        assert mesh.sent[-1][0] == path.read_bytes()
    else:
        assert isinstance(sent, Outcome)
        assert (sent.result, sent.reason) == ("failed", "CHANGED")
