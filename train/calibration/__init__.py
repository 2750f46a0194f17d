"""From logits to probabilities, and certified thresholds."""
