"""The retrieval service: points in, hits out; its indexes follow PostgreSQL's log."""
