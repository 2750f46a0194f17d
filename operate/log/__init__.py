"""The decision log: append-only segments that say later why a decision was made."""
