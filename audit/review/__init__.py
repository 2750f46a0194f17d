"""Reviewing items, in the terminal (`tui`) or in a browser (`web`); `Session` is what both use."""
