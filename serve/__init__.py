"""Scoring with a bundle: numpy, onnxruntime and tokenizers are all it needs."""

from .assessment import Assessment, Finding, Span
from .bundle import Bundle, BundlePolicy
from .evidence import EvidenceOptions
from .scorer import Scorer

__all__ = ["Assessment", "Bundle", "BundlePolicy", "EvidenceOptions", "Finding", "Scorer", "Span"]
