"""What users may rely on: an archive is one document of all that can be read in it, and no bomb."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.documents import formats
from engine.documents.formats import archive
from engine.documents.formats.archive import NAME_CHARS_MAX, safe_name
from engine.documents.parse import parse_document
from engine.documents.parsed import Parsed
from engine.errors import DocumentUnreadable, ParserLimitExceeded, RagmeshError
from tests.engine.documents.test_formats import ONE
from tests.engine.documents.writers import WRITERS, zipped


def tarred(entries: Mapping[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, data in entries.items():
            content = data.encode() if isinstance(data, str) else data
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return out.getvalue()


def tarred_and_packed(entries: Mapping[str, bytes | str]) -> bytes:
    return gzip.compress(tarred(entries))


PACKERS: Mapping[str, Callable[[Mapping[str, bytes | str]], bytes]] = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": tarred_and_packed,
}


def _sections(parsed: Parsed) -> dict[str, list[str]]:
    """The texts under each outermost heading."""
    found: dict[str, list[str]] = {}
    for block in parsed.blocks:
        texts = found.setdefault(block.heading_path[0], [])
        texts.append(parsed.text[block.span.start : block.span.end])
    return {name: texts[1:] for name, texts in found.items()}


def _texts(parsed: Parsed) -> list[str]:
    return [parsed.text[block.span.start : block.span.end] for block in parsed.blocks]


@pytest.mark.parametrize("packer", sorted(PACKERS))
def test_each_file_is_a_section_that_says_what_it_says_by_itself(packer: str) -> None:
    files = {f"papers/one.{ending}": write(ONE) for ending, write in WRITERS.items()}
    parsed = parse_document(PACKERS[packer](files), f"share.{packer}")
    alone = {name: _texts(parse_document(data, name)) for name, data in files.items()}
    assert _sections(parsed) == alone
    assert parsed.title == f"share.{packer}"
    assert Parsed.from_json(parsed.to_json()) == parsed
    last = next(b for b in reversed(parsed.blocks) if b.heading_path[0] == "papers/one.md")
    assert last.heading_path == ("papers/one.md", "A heading", "A section")


@pytest.mark.parametrize("packer", sorted(PACKERS))
def test_archives_in_archives_are_walked_to_a_depth(packer: str) -> None:
    pack = PACKERS[packer]
    data = pack({"words.txt": "The words in the middle."})
    for depth in (1, 2, 3):
        data = pack({f"{depth}.{packer}": data, "beside.txt": f"Beside at {depth}."})
    parsed = parse_document(data, "all")
    assert "The words in the middle." in parsed.text
    middle = next(b for b in parsed.blocks if "middle" in parsed.text[b.span.start : b.span.end])
    assert middle.heading_path == (f"3.{packer}", f"2.{packer}", f"1.{packer}", "words.txt")
    with pytest.raises(ParserLimitExceeded, match="more than 4 deep"):
        parse_document(pack({"more": pack({"more": data})}))


def test_one_packed_file_is_read_as_itself() -> None:
    parsed = parse_document(gzip.compress(WRITERS["md"](ONE)), "notes.md.gz")
    assert _sections(parsed) == {"notes.md": _texts(parse_document(WRITERS["md"](ONE), "notes.md"))}
    both = gzip.compress(b"First half, ") + gzip.compress(b"second half.")
    assert "First half, second half." in parse_document(both).text


def _messy_zip() -> bytes:
    """A good file among all that cannot be read."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("good.txt", "What can be read.")
        made.writestr("folder/", "")
        made.writestr("__MACOSX/._good.txt", b"\x00\x05\x16\x07")
        made.writestr("secret.txt", "password needed")
        made.writestr("damaged.txt", "damaged damaged damaged")
        made.writestr("program", b"\x7fELF" + bytes(100))
        made.writestr("empty.txt", "")
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, "/etc/passwd")
        for info in made.infolist():
            if info.filename == "secret.txt":
                info.flag_bits |= 1
    return out.getvalue().replace(b"damaged damaged damaged", b"damaged damaged dam?ged")


def test_what_cannot_be_read_is_named_with_the_reason_and_the_rest_is_read() -> None:
    sections = _sections(parse_document(_messy_zip()))
    assert sections.pop("good.txt") == ["What can be read."]
    reasons = {name: texts[0] for name, texts in sections.items()}
    assert all(reason.startswith("Not read: ") for reason in reasons.values())
    for name, part in {
        "secret.txt": "encrypted",
        "damaged.txt": "damaged",
        "program": "x-executable",
        "empty.txt": "empty",
        "link.txt": "link",
    }.items():
        assert part in reasons.pop(name)
    assert reasons == {}


def test_links_and_devices_of_a_tar_are_named_and_not_followed() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        good = tarfile.TarInfo("good.txt")
        good.size = 5
        made.addfile(good, io.BytesIO(b"Words"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"odd-{kind!r}")
            member.type, member.linkname = kind, "/etc/passwd"
            made.addfile(member)
    sections = _sections(parse_document(out.getvalue()))
    assert sections.pop("good.txt") == ["Words"]
    assert list(sections.values()) == [["Not read: it is a link or a device"]] * 4


def test_an_archive_of_nothing_readable_is_refused_for_that() -> None:
    for pack in PACKERS.values():
        with pytest.raises(DocumentUnreadable, match="none of the archive's 1 files"):
            parse_document(pack({"program": b"\x7fELF" + bytes(100)}))
    with pytest.raises(DocumentUnreadable, match="archive is empty"):
        parse_document(zipped({}))


@pytest.mark.parametrize("packer", ["tar", "tar.gz", "zip"])
def test_an_archive_that_is_cut_off_is_refused_or_says_what_is_damaged(packer: str) -> None:
    data = PACKERS[packer]({"a.txt": "Words " * 50_000, "b.txt": "More words " * 5})
    for size in (len(data) // 3, len(data) - 700):
        try:
            text = parse_document(data[:size]).text
        except DocumentUnreadable:
            continue
        assert "Not read: it is damaged" in text or text.count("Words") == 50_000


@settings(max_examples=200)
@given(
    st.text(max_size=400)
    | st.lists(st.sampled_from(["..", ".", "a", "C:", "/", "\\", "\u202e"])).map("/".join)
)
def test_names_are_shown_safely(name: str) -> None:
    shown = safe_name(name)
    assert len(shown) <= NAME_CHARS_MAX
    assert not shown.startswith(("/", "\\"))
    assert not {"", ".", ".."} & set(shown.split("/")) or shown == ""
    assert not any(unicodedata.category(c) in ("Cc", "Cs") or c in "\u202e\u200b\\" for c in shown)


def test_old_archivers_names_are_read_in_their_encoding() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("Gr@@@@e.txt", "Words")
    data = out.getvalue().replace(b"Gr@@@@e", "Größe".encode())
    assert list(_sections(parse_document(data))) == ["Größe.txt"]


def test_bounds_hold_for_all_archives_in_a_file_together(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = zipped({f"{n}.txt": f"Words {n}" for n in range(30)})
    data = zipped({f"{n}.zip": inner for n in range(3)})
    assert parse_document(data).text.count("Words") == 90
    monkeypatch.setattr(formats, "UNPACKED_FILES_MAX", 80)
    with pytest.raises(ParserLimitExceeded, match="more than 80 files"):
        parse_document(data)
    monkeypatch.undo()
    monkeypatch.setattr(formats, "UNPACKED_BYTES_MAX", 1 << 20)
    half = bytes(range(33, 127)) * 3_300
    with pytest.raises(ParserLimitExceeded, match="more than 1 MiB"):
        parse_document(zipped({f"{n}.zip": zipped({"a": half}, stored=["a"]) for n in range(4)}))


@pytest.mark.parametrize("packer", ["zip", "tar.gz"])
def test_a_bomb_is_refused_whole(packer: str) -> None:
    bomb: dict[str, bytes | str] = {"good.txt": "Words", "bomb.txt": b"a" * (60 << 20)}
    for data in (PACKERS[packer](bomb), zipped({"inner": PACKERS[packer](bomb)})):
        with pytest.raises(ParserLimitExceeded, match="times its packed size"):
            parse_document(data)
    with pytest.raises(ParserLimitExceeded, match="unpacks to more than"):
        parse_document(gzip.compress(b"a" * (65 << 20)))


def test_a_file_that_is_too_large_alone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ENTRY_BYTES_MAX", 1_000)
    sections = _sections(parse_document(zipped({"a.txt": "Words", "b.txt": "ab " * 500})))
    assert sections == {
        "a.txt": ["Words"],
        "b.txt": ["Not read: it has 1,500 bytes, more than 1,000"],
    }


_DAMAGED = st.sampled_from(
    [pack({"a.txt": "Words " * 99, "b.html": WRITERS["html"](ONE)}) for pack in PACKERS.values()]
)


@settings(max_examples=150)
@given(_DAMAGED, st.data())
def test_damage_anywhere_is_a_refusal_and_never_a_crash(good: bytes, data: st.DataObject) -> None:
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 12))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_document(bytes(bad), "a.bin")
    except RagmeshError:
        return
    assert Parsed.from_json(parsed.to_json()) == parsed
