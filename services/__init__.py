"""Speaks. Async; owns time, sockets, queues and storage."""
