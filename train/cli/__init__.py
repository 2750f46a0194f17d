"""The commands train, search, evaluate and compare."""
