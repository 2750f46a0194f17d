"""Reviewing items, in the terminal or in a browser."""
