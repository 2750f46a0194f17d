"""How likely each label is to be wrong."""
