"""Measures. `python -m benchmarks` prints both sides of every ratio and a line per target."""
