"""What ragmesh computes in C++; see the stub beside this file."""

from ragmesh_native._native import (
    Coarse,
    GraphArrays,
    Stopped,
    Vectors,
    bm25_top,
    build_graph,
    check_graph,
    count_live,
    instructions,
    make_coarse,
    scan,
    score_rows,
    search_graph,
    sparse_top,
    use_instructions,
)

__all__ = [
    "Coarse",
    "GraphArrays",
    "Stopped",
    "Vectors",
    "bm25_top",
    "build_graph",
    "check_graph",
    "count_live",
    "instructions",
    "make_coarse",
    "scan",
    "score_rows",
    "search_graph",
    "sparse_top",
    "use_instructions",
]
