"""The methods of both clients, each written once: arguments to requests, answers to results.

Everywhere: `timeout_s` bounds each request with its retries (None: the client's own limit; a
method that sends several, such as the pages of a list, gives each its own); `lane="bulk"` lets
callers who wait for an answer go first; names are given whole or as ids; every method raises
RagmeshError and nothing of gRPC's.
"""
