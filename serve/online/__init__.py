"""Scoring texts that arrive one by one: `MicroBatcher` (in `microbatcher`) lets them share runs of the model."""
