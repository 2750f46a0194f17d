"""Splits that keep a merchant and near-duplicate texts together."""
