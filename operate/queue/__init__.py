"""The review queue: what reviewers see next, with logged inclusion probabilities."""
