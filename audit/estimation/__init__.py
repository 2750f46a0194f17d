"""Figures from the answers: the outcome of each cell, agreement, yields, errors left, and when to stop (`Estimator`)."""
