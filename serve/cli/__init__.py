"""The commands score and bench."""
