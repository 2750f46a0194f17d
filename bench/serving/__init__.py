"""Benchmarks of scoring; each module with a `main` runs as `cd bench && python -m serving.NAME`."""
