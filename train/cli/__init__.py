"""The commands train, search, evaluate and compare, and the options they share."""
