"""Further training records made from the given ones."""
