"""The indexes of a node: loaded, followed, sealed, merged, kept."""
