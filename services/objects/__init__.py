"""Where bytes too large for rows lie: segments of indexes, and files of documents."""
