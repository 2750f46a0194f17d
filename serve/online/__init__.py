"""Micro-batching for online scoring."""
