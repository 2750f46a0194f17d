"""Benchmarks of label-audit; each module with a `main` runs as `cd bench && python -m audit.NAME`."""
