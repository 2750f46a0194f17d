"""Measures a model on labelled records, or two models against each other.

Public parts: `Predictions`, `DecisionRule`, `evaluate` and its `Evaluation` (figures), `compare` and its `Comparison`.
"""
