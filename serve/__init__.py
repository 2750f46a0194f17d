"""Scoring with a bundle: numpy, onnxruntime and tokenizers are all it needs."""
