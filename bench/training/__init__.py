"""Benchmarks of training: speed and memory; each module with a `main` runs as `cd bench && python -m training.NAME`."""
