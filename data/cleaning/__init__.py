"""Cleaning merchant text, the same in training and in scoring, with a map back to the original."""
