"""The classifier: encoder, adapter, n-gram branch, and how their scores become logits."""
