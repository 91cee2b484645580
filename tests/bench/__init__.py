"""Benchmarks: `make bench` runs all of them, `python -m tests.bench NAME` one. Nothing here is a test."""
