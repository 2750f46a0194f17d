"""Benchmarks of scoring in bulk."""
