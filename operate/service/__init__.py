"""The scoring service: HTTP around the micro-batcher."""
