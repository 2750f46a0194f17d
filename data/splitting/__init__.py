"""Splits that keep a merchant and near-duplicate texts together: `splits.make_splits`, `near_duplicates.near_duplicate_groups`."""
