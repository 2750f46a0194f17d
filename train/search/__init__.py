"""Hyperparameter search on the validation split: `Search` and `load_space`."""
