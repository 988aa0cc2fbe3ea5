"""The columns of rows that a segment file holds, and how they are read back one row at a time.

Arrays, for n rows (names begin with `rows.`):
- `seqs` int64 (n): the commit that wrote the row.
- `ids`, `texts`, `payloads`: UTF-8 and JSON, each one blob with n + 1 starts.
- `documents`: the distinct documents in order; `document` int32 (n) is a row's, or -1.
- `passages` int32 (n, 3): index, start and end of a passage's span; -1 where there is none.
- `sentence_starts` int64 (n + 1), `sentence_spans` int32 (m, 2), `sentence_vectors` int8 (m, d).
- `hashes` uint64 (n), ascending, of the ids; `hash_positions` uint32 (n), whose they are.
- `id_order` uint32 (n): positions in the order of ids.

Where a row has token vectors, there are `tokens.starts` int64 (n + 1) and `tokens.vectors` int8
(m, d) too: a row without any has none between its starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.index.files import Array, Arrays
from engine.index.written import WrittenPayload
from engine.types import JsonValue, Payload, Point, Sentences, Span, TokenVectors, Vector

Hashes = NDArray[np.uint64]


_DECODE = json.JSONDecoder().raw_decode
"""json.loads without its looks for whitespace, of which `_json` writes none."""


class Strings:
    """Strings in one blob with their starts, read without decoding the others.

    Through memoryviews, which give Python's own numbers and bytes: nearly twice as fast, one by
    one, as NumPy.
    """

    __slots__ = ("_blob", "_starts")

    def __init__(self, arrays: Arrays, name: str) -> None:
        """Over `{name}.blob` and `{name}.starts`."""
        self._blob = arrays[f"{name}.blob"].data
        self._starts = arrays[f"{name}.starts"].data

    def __len__(self) -> int:
        return len(self._starts) - 1

    def raw(self, index: int) -> bytes:
        """The bytes of one."""
        return self._blob[self._starts[index] : self._starts[index + 1]].tobytes()

    def __getitem__(self, index: int) -> str:
        return str(
            self._blob[self._starts[index] : self._starts[index + 1]], "utf-8", "surrogatepass"
        )


def pack_strings(name: str, values: Iterable[bytes]) -> dict[str, Array]:
    """The arrays of `Strings`."""
    parts = list(values)
    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=starts[1:])
    return {
        f"{name}.blob": np.frombuffer(b"".join(parts), np.uint8),
        f"{name}.starts": starts,
    }


def hash_ids(ids: Sequence[str]) -> Hashes:
    """64 bits of BLAKE2b of each id: what a segment is searched by first."""
    digests = [
        hashlib.blake2b(one.encode("utf-8", "surrogatepass"), digest_size=8).digest() for one in ids
    ]
    return np.frombuffer(b"".join(digests), np.dtype("<u8"))


def pack_rows(points: Sequence[Point], seqs: Sequence[int] | NDArray[np.int64]) -> dict[str, Array]:
    """The arrays of the module for these points, without their vectors."""
    ids = [_utf8(point.id) for point in points]
    hashes = hash_ids([point.id for point in points])
    by_hash = np.argsort(hashes, kind="stable").astype(np.uint32)
    documents = sorted({point.document for point in points if point.document})
    numbers = {document: number for number, document in enumerate(documents)}
    passages = np.full((len(points), 3), -1, np.int32)
    for row, point in enumerate(points):
        passages[row, 0] = point.passage_index
        if point.span is not None:
            passages[row, 1:] = point.span.start, point.span.end
    return {
        "rows.seqs": np.asarray(seqs, np.int64),
        **pack_strings("rows.ids", ids),
        **pack_strings("rows.texts", (_utf8(point.text) for point in points)),
        **pack_strings("rows.payloads", (_json(point.payload) for point in points)),
        **pack_strings("rows.documents", map(_utf8, documents)),
        "rows.document": np.array([numbers.get(p.document, -1) for p in points], np.int32),
        "rows.passages": passages,
        **_pack_sentences(points),
        "rows.hashes": hashes[by_hash],
        "rows.hash_positions": by_hash,
        "rows.id_order": np.array(sorted(range(len(ids)), key=ids.__getitem__), np.uint32),
    }


def _pack_sentences(points: Sequence[Point]) -> dict[str, Array]:
    given = [point.sentences for point in points]
    starts = np.zeros(len(points) + 1, np.int64)
    np.cumsum([0 if one is None else len(one) for one in given], out=starts[1:])
    some = [one for one in given if one is not None and len(one)]
    width = some[0].vectors.shape[1] if some else 0
    return {
        "rows.sentence_starts": starts,
        "rows.sentence_spans": np.concatenate(
            [np.zeros((0, 2), np.int32), *(one.spans for one in some)]
        ),
        "rows.sentence_vectors": np.concatenate(
            [np.zeros((0, width), np.int8), *(one.vectors for one in some)]
        ),
    }


def pack_tokens(given: Sequence[TokenVectors | None]) -> dict[str, Array]:
    """The arrays of token vectors; nothing where no row has any."""
    some = [one for one in given if one is not None]
    if not some:
        return {}
    return {
        "tokens.starts": token_starts([0 if one is None else len(one) for one in given]),
        "tokens.vectors": np.concatenate(some),
    }


def token_starts(counts: Sequence[int]) -> NDArray[np.int64]:
    """Where each row's token vectors begin, and the last one's end."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _json(payload: Payload) -> bytes:
    if isinstance(payload, WrittenPayload):
        return payload.text
    return _utf8(json.dumps(payload, ensure_ascii=False, separators=(",", ":")))


class HitColumns(NamedTuple):
    """The arrays of what a hit shows, as the module describes them, for who reads rows without an
    object for each."""

    ids_blob: Array
    ids_starts: Array
    texts_blob: Array
    texts_starts: Array
    payloads_blob: Array
    payloads_starts: Array
    documents_blob: Array
    documents_starts: Array
    document: Array
    passages: Array

    @classmethod
    def of(cls, arrays: Arrays) -> HitColumns:
        """Raises KeyError for a missing array."""
        return cls(*(arrays[f"rows.{name.replace('_', '.')}"] for name in cls._fields))


class Rows:
    """Rows as their arrays have them. Opening reads nothing of them."""

    __slots__ = (
        "_document",
        "_documents",
        "_hash_positions",
        "_hashes",
        "_numbers",
        "_passages",
        "_payloads",
        "_sentence_spans",
        "_sentence_starts",
        "_sentence_vectors",
        "_texts",
        "_token_starts",
        "_token_vectors",
        "hit_columns",
        "id_order",
        "ids",
        "seqs",
    )

    def __init__(self, arrays: Arrays) -> None:
        """Raises KeyError for a missing array, ValueError for lengths that do not agree."""
        self.seqs: NDArray[np.int64] = arrays["rows.seqs"]
        self.ids = Strings(arrays, "rows.ids")
        self._texts = Strings(arrays, "rows.texts")
        self._payloads = Strings(arrays, "rows.payloads")
        self._documents = Strings(arrays, "rows.documents")
        self._document: NDArray[np.int32] = arrays["rows.document"]
        self._numbers = arrays["rows.document"].data
        self._passages = arrays["rows.passages"].reshape(-1).data
        self._sentence_starts = arrays["rows.sentence_starts"].data
        self._sentence_spans: NDArray[np.int32] = arrays["rows.sentence_spans"]
        self._sentence_vectors: NDArray[np.int8] = arrays["rows.sentence_vectors"]
        self._hashes: Hashes = arrays["rows.hashes"]
        self._hash_positions: NDArray[np.uint32] = arrays["rows.hash_positions"]
        self.id_order: NDArray[np.uint32] = arrays["rows.id_order"]
        self.hit_columns = HitColumns.of(arrays)
        self._token_starts: NDArray[np.int64] | None = arrays.get("tokens.starts")
        self._token_vectors: TokenVectors | None = arrays.get("tokens.vectors")
        count = len(self.seqs)
        lengths = [
            len(self.ids),
            len(self._texts),
            len(self._payloads),
            len(self._document),
            len(self._passages) // 3,
            len(self._sentence_starts) - 1,
            len(self._hashes),
            len(self._hash_positions),
            len(self.id_order),
        ]
        if self._token_starts is not None:
            lengths.append(len(self._token_starts) - 1)
        if any(length != count for length in lengths):
            raise ValueError("the columns of a segment are of different lengths")

    def __len__(self) -> int:
        return len(self.seqs)

    def position(self, id: str) -> int:
        """Where an id is, or -1."""
        found = self.positions([id], hash_ids([id]))
        return int(found[0])

    def positions(self, ids: Sequence[str], hashes: Hashes) -> NDArray[np.int64]:
        """Where each id is, or -1; `hashes` are those of the ids."""
        places = self.positions_by_hash(hashes)
        for index in np.flatnonzero(places >= 0).tolist():
            place = int(places[index])
            wanted = _utf8(ids[index])
            if self.ids.raw(place) != wanted:
                places[index] = self._next_with(int(hashes[index]), wanted)
        return places

    def positions_by_hash(self, hashes: Hashes) -> NDArray[np.int64]:
        """The first row with each hash, or -1."""
        if not len(self._hashes):
            return np.full(len(hashes), -1, np.int64)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        places = self._hash_positions[at].astype(np.int64)
        places[self._hashes[at] != hashes] = -1
        return places

    def _next_with(self, value: int, wanted: bytes) -> int:
        low, high = np.searchsorted(self._hashes, np.uint64(value), "left"), len(self._hashes)
        for at in range(int(low) + 1, high):
            if int(self._hashes[at]) != value:
                break
            place = int(self._hash_positions[at])
            if self.ids.raw(place) == wanted:
                return place
        return -1

    def hashes_by_position(self) -> Hashes:
        """The hash of every row's id, by position."""
        out = np.empty(len(self._hashes), np.uint64)
        out[self._hash_positions] = self._hashes
        return out

    def text(self, position: int) -> str:
        """The text of one row."""
        return self._texts[position]

    def payload(self, position: int) -> Payload:
        """The payload of one row."""
        text = self._payloads[position]
        if text == "{}":
            return {}
        parsed: dict[str, JsonValue] = _DECODE(text)[0]
        return parsed

    def document(self, position: int) -> str:
        """The document of one row, or the empty string."""
        number = self._numbers[position]
        return self._documents[number] if number >= 0 else ""

    def is_passage(self) -> NDArray[np.bool_]:
        """Which rows are passages of documents."""
        return self._document >= 0

    def sentences(self, position: int) -> Sentences | None:
        """The sentences of one row; None where there are none."""
        start, end = self._sentence_starts[position], self._sentence_starts[position + 1]
        if start == end:
            return None
        return Sentences(self._sentence_spans[start:end], self._sentence_vectors[start:end])

    def token_vectors(self, position: int) -> TokenVectors | None:
        """The token vectors of one row; None where there are none."""
        if self._token_starts is None or self._token_vectors is None:
            return None
        start, end = self._token_starts[position : position + 2].tolist()
        return None if start == end else self._token_vectors[start:end]

    def named(self, position: int) -> Point:
        """One row with its id and its place in its document, and nothing else: a hit of which no
        more is asked takes a quarter of the time."""
        passages, at = self._passages, 3 * position
        start = passages[at + 1]
        return Point(
            self.ids[position],
            None,
            document=self.document(position),
            passage_index=passages[at],
            span=None if start < 0 else Span(start, passages[at + 2]),
        )

    def point(self, position: int, vector: Vector | None) -> Point:
        """One row as a point, with this vector."""
        passages, at = self._passages, 3 * position
        index, start, end = passages[at], passages[at + 1], passages[at + 2]
        return Point(
            id=self.ids[position],
            vector=vector,
            text=self.text(position),
            payload=self.payload(position),
            sentences=self.sentences(position),
            document=self.document(position),
            passage_index=index,
            span=None if start < 0 else Span(start, end),
            token_vectors=self.token_vectors(position),
        )


def bytes_of(arrays: Arrays, prefix: str) -> int:
    """What the arrays whose names begin so take, in bytes."""
    sizes: list[Any] = [array.nbytes for name, array in arrays.items() if name.startswith(prefix)]
    return int(sum(sizes))
