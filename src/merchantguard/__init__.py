"""merchantguard: which policies a merchant's own text violates, with calibrated probabilities."""

__version__ = "0.1.0"
