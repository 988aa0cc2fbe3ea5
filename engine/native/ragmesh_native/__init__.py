"""What ragmesh computes in C++; see the stub beside this file."""

from ragmesh_native._native import (
    GraphArrays,
    Stopped,
    Vectors,
    bm25_top,
    build_graph,
    check_graph,
    count_live,
    encode_rows,
    instructions,
    scan,
    score_rows,
    search_graph,
    search_graph_together,
    sparse_top,
    use_instructions,
)

__all__ = [
    "GraphArrays",
    "Stopped",
    "Vectors",
    "bm25_top",
    "build_graph",
    "check_graph",
    "count_live",
    "encode_rows",
    "instructions",
    "scan",
    "score_rows",
    "search_graph",
    "search_graph_together",
    "sparse_top",
    "use_instructions",
]
