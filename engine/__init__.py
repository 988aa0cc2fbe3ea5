"""Computes. Synchronous and deterministic; knows no socket, no clock and no environment."""
