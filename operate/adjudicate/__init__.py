"""A second opinion on uncertain cases: a language model answers under one policy, must quote, and may abstain."""
