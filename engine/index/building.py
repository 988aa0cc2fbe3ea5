"""Builds one segment file out of others and of dumped buffers: a process of its own does it.

`python -m engine.index.building JOB` reads a job (JSON, see `Job`), writes the segment, and prints
one line of JSON: `sha256`, `rows`, `size_bytes`. The serving process pays neither the time nor the
memory; the vectors are written first and read back through the file's own map, so that the graph
is built without a second copy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ragmesh_native import Vectors

from engine.errors import RagmeshError
from engine.index import sparse
from engine.index.columns import Rows, pack_rows, pack_tokens, token_starts
from engine.index.exact import Metric
from engine.index.files import Array, Arrays, ArrayWriter, Written, read_arrays, write_arrays
from engine.index.graph import Graph, GraphSettings
from engine.index.packing import pack_payloads
from engine.index.postings import WordRows
from engine.index.sealed import FORMAT
from engine.index.segment import SegmentView
from engine.index.storage import Storage, coarse_rows, parts, precise_rows
from engine.index.word_table import WordTable, merged
from engine.index.words import RECIPE, Analyzer

Kept = NDArray[np.int64]

_WORDS = "words."


@dataclass(frozen=True, slots=True)
class Spec:
    """What a segment is built with. `sealed_seq` goes into the file. `continues` allows to go on
    with the graph of the first source; else it is built anew."""

    dimensions: int
    metric: Metric
    language: str
    graph: GraphSettings
    sealed_seq: int
    storage: Storage = Storage.FLOAT32
    continues: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """A segment's or a dump's arrays, and the positions of the rows to take."""

    arrays: Arrays
    kept: Kept

    @property
    def whole(self) -> bool:
        """Whether every row is taken."""
        return len(self.kept) == len(self.arrays["rows.seqs"])


def source_of(view: SegmentView) -> Source:
    """The living rows of a buffer or of a segment."""
    if view.sealed is not None:
        return Source(view.sealed.arrays, np.flatnonzero(view.live))
    return Source(dump_arrays(view), np.arange(view.live_count))


def dump_arrays(view: SegmentView) -> dict[str, Array]:
    """The living rows of a buffer as the arrays of a source: rows and vectors, nothing derived."""
    positions = np.flatnonzero(view.live)
    points = [view.rows.point(position) for position in positions.tolist()]
    return {
        **pack_rows(points, view.rows.seqs[positions]),
        **pack_tokens([point.token_vectors for point in points]),
        **sparse.pack_rows([point.sparse_vector for point in points]),
        "vectors": view.vectors[positions],
        "dense": view.rows.dense[positions],
    }


def build_segment(
    sources: Sequence[Source],
    spec: Spec,
    path: Path,
    *,
    stop: NDArray[np.uint8] | None = None,
) -> Written:
    """Write the segment of these rows to `path`. Equal sources and spec give equal bytes.

    The first source's graph is continued where all of its rows are taken. Raises Cancelled soon
    after `stop`, of one entry, is not 0, OSError for what the disk refuses; then there is no file.
    """
    count = sum(len(source.kept) for source in sources)
    with ArrayWriter(path) as writer:
        _write_rows(writer, sources)
        _write_tokens(writer, sources)
        _write_sparse(writer, sources)
        for name, array in _words(sources, spec.language).items():
            writer.add(name, array)
        dense = np.concatenate(
            [np.zeros(0, np.bool_), *(s.arrays["dense"][s.kept] for s in sources)]
        )
        writer.add("dense", dense)
        _write_vectors(writer, sources, (count, spec.dimensions), spec.storage)
        if dense.any():
            base = _base(sources, spec)
            first = 0 if base is None else len(base.links)
            graph = Graph.build(
                spec.metric,
                _compared(writer, spec),
                np.flatnonzero(dense[first:]) + first,
                spec.graph,
                base=base,
                stop=stop,
            )
            for name, array in graph.arrays().items():
                writer.add(name, array)
        return writer.finish(
            {
                "format": FORMAT,
                "metric": spec.metric.value,
                "dimensions": spec.dimensions,
                "language": spec.language,
                "m": spec.graph.m,
                "ef_construction": spec.graph.ef_construction,
                "sealed_seq": spec.sealed_seq,
                "rows": count,
                "words": RECIPE,
            }
        )


def _write_rows(writer: ArrayWriter, sources: Sequence[Source]) -> None:
    points, seqs = [], []
    for source in sources:
        rows = Rows(source.arrays)
        points += [rows.point(position, None) for position in source.kept.tolist()]
        seqs.append(rows.seqs[source.kept])
    packed = pack_rows(points, np.concatenate([np.zeros(0, np.int64), *seqs]))
    packed |= pack_payloads([point.payload for point in points])
    for name, array in packed.items():
        writer.add(name, array)


def _write_tokens(writer: ArrayWriter, sources: Sequence[Source]) -> None:
    """Row by row, because memory need not hold them."""
    counts: list[int] = []
    width = 0
    for source in sources:
        if "tokens.starts" in source.arrays:
            counts += np.diff(source.arrays["tokens.starts"])[source.kept].tolist()
            width = width or source.arrays["tokens.vectors"].shape[1]
        else:
            counts += [0] * len(source.kept)
    if not any(counts):
        return
    writer.add("tokens.starts", token_starts(counts))
    writer.add_chunks("tokens.vectors", np.int8, (sum(counts), width), _token_chunks(sources))


def _token_chunks(sources: Sequence[Source]) -> Iterator[Array]:
    for source in sources:
        rows = Rows(source.arrays)
        for position in source.kept.tolist():
            vectors = rows.token_vectors(position)
            if vectors is not None:
                yield vectors


def _write_sparse(writer: ArrayWriter, sources: Sequence[Source]) -> None:
    rows = sparse.gathered([(source.arrays, source.kept) for source in sources])
    for name, array in rows.items():
        writer.add(name, array)
    for name, array in sparse.by_dimension(rows):
        writer.add(name, array)


def _words(sources: Sequence[Source], language: str) -> dict[str, Array]:
    analyzer = Analyzer(language)
    read: list[tuple[WordRows, Kept]] = []
    for source in sources:
        table = source.arrays
        if f"{_WORDS}lengths" not in table:
            rows = Rows(source.arrays)
            texts = (rows.text(position) for position in range(len(rows)))
            table = WordTable.build(analyzer.words(text) for text in texts)
        read.append((WordTable(table), source.kept))
    return merged(read)


def _write_vectors(
    writer: ArrayWriter, sources: Sequence[Source], shape: tuple[int, int], storage: Storage
) -> None:
    rows = (precise_rows(storage, chunk) for chunk in _vector_chunks(sources))
    writer.add_chunks("vectors", storage.dtype, shape, rows)
    if storage.has_codes(shape[0]):
        vectors = writer.mapped("vectors")
        # Twice through the rows: an array is written as one piece, and memory holds neither.
        scales = (coarse_rows(vectors[part])[1] for part in parts(len(vectors)))
        writer.add_chunks("scales", np.float32, shape[:1], scales)
        codes = (coarse_rows(vectors[part])[0] for part in parts(len(vectors)))
        writer.add_chunks("codes", np.int8, shape, codes)


def _compared(writer: ArrayWriter, spec: Spec) -> Vectors:
    """What the graph is built by: codes take half the time of what was written, and the graph finds
    as much (51,018 x 384: 4.0 and 7.4 s; recall@10 at ef 64 0.988 and 0.987). Euclidean distances
    gain nothing by them."""
    vectors = writer.mapped("vectors")
    if spec.metric is Metric.EUCLIDEAN:
        return Vectors(vectors)
    if spec.storage.has_codes(len(vectors)):
        return Vectors(writer.mapped("codes"), writer.mapped("scales"))
    return Vectors(*coarse_rows(vectors))


def _vector_chunks(sources: Sequence[Source]) -> Iterator[Array]:
    for source in sources:
        for part in parts(len(source.kept)):
            yield source.arrays["vectors"][source.kept[part]]


def _base(sources: Sequence[Source], spec: Spec) -> Graph | None:
    first = sources[0]
    if not spec.continues or not first.whole or "graph.level0" not in first.arrays:
        return None
    graph = Graph.of(first.arrays, spec.metric, spec.graph)
    return graph if graph.links.m == spec.graph.m else None


@dataclass(frozen=True, slots=True)
class Job:
    """`sources`: pairs of a file's path and that of a file with an array `kept`, or None for all
    its rows. `out`: where the segment goes."""

    sources: tuple[tuple[str, str | None], ...]
    out: str
    dimensions: int
    metric: str
    language: str
    m: int
    ef_construction: int
    sealed_seq: int
    storage: str
    continues: bool

    def run(self) -> Written:
        """Build it."""
        spec = Spec(
            self.dimensions,
            Metric(self.metric),
            self.language,
            GraphSettings(m=self.m, ef_construction=self.ef_construction),
            self.sealed_seq,
            Storage(self.storage),
            self.continues,
        )
        return build_segment([_source(*one) for one in self.sources], spec, Path(self.out))


def _source(path: str, kept_path: str | None) -> Source:
    file = Path(path)
    # A segment has its hash as its name. What a disk has damaged must not become part of another.
    arrays = read_arrays(file, file.stem if file.suffix == ".segment" else None).arrays
    if kept_path is None:
        return Source(arrays, np.arange(len(arrays["rows.seqs"])))
    return Source(arrays, read_arrays(Path(kept_path)).arrays["kept"])


def prepare_job(
    sources: Sequence[tuple[SegmentView, Path | None]], spec: Spec, folder: Path, out: Path
) -> Job:
    """Write what a job reads into `folder`: dumps of buffers, and which rows of segments live.

    Each source comes with its segment file, or None for a buffer.
    """
    paths: list[tuple[str, str | None]] = []
    for number, (view, file) in enumerate(sources):
        if file is None:
            dump = folder / f"dump-{number}"
            write_arrays(dump, dump_arrays(view), {})
            paths.append((str(dump), None))
        elif view.tombstones:
            kept = folder / f"kept-{number}"
            write_arrays(kept, {"kept": np.flatnonzero(view.live)}, {})
            paths.append((str(file), str(kept)))
        else:
            paths.append((str(file), None))
    return Job(
        tuple(paths),
        str(out),
        spec.dimensions,
        spec.metric.value,
        spec.language,
        spec.graph.m,
        spec.graph.ef_construction,
        spec.sealed_seq,
        spec.storage.value,
        spec.continues,
    )


def save_job(job: Job, path: Path) -> None:
    """Write a job to be run by another process."""
    path.write_text(json.dumps(asdict(job)), "utf-8")


def load_job(path: Path) -> Job:
    """Read what `save_job` wrote."""
    fields = json.loads(path.read_text("utf-8"))
    return Job(**{**fields, "sources": tuple((a, b) for a, b in fields["sources"])})


def main(arguments: Sequence[str]) -> int:
    """Run the job in the file named; the exit status."""
    try:
        written = load_job(Path(arguments[0])).run()
    except (OSError, RagmeshError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    rows = read_arrays(written.path).facts["rows"]
    report = json.dumps({"sha256": written.sha256, "rows": rows, "size_bytes": written.size_bytes})
    sys.stdout.write(f"{report}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
