"""From records to batches of token windows."""
