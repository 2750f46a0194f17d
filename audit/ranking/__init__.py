"""How likely each label is to be wrong: `rank_cells` gives a probability of label error for every cell."""
