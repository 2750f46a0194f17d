"""Tasks for other labelling tools, and their answers."""
