"""The in-process index of one collection: vectors, words and payloads, searched together."""

from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.exact import Metric
from engine.index.graph import GraphSettings
from engine.index.maintenance import MaintenanceSettings, Reason, Work
from engine.index.search import Explain, Mode, Query, Results, search
from engine.index.view import IndexStats, View, count, get, list_points, stats

__all__ = [
    "CollectionIndex",
    "Explain",
    "GraphSettings",
    "IndexSettings",
    "IndexStats",
    "MaintenanceSettings",
    "Metric",
    "Mode",
    "Query",
    "Reason",
    "Results",
    "View",
    "Work",
    "count",
    "get",
    "list_points",
    "search",
    "stats",
]
