"""PostgreSQL, the log of everything (D3), and Redis, which holds only what may be lost (D4).

    store        the pool; transactions of one tenant, and of the system
    failures     what PostgreSQL raises, as the tree of engine/errors.py
    migrate      migrations/*.sql, applied at start under a lock
    codec        vectors and sentences as bytes
    collections  points  changes          what an index is made of: rows, the write path, the log
    contents     passages  documents      files, their text and passages, who shares them
    jobs         requests  cleanup        the work queue, durable request ids, what may go
    redis        the client and its limits

Order of locks, in every transaction; whoever keeps it cannot deadlock:
request id → collection → document → job → content → text → passage set → head (the counter row).
The head comes last, in `points.apply_batch`, once a transaction.
"""
