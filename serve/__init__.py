"""Scoring with a bundle: numpy, onnxruntime and tokenizers are all it needs."""

from .assessment import Assessment, Finding, Span
from .bundle import Bundle, BundlePolicy
from .evidence import EvidenceOptions
from .online.microbatcher import BatcherClosed, DeadlineExceeded, MicroBatcher, QueueFull
from .scorer import Scorer
from .site_text import SiteText

__all__ = [
    "Assessment",
    "BatcherClosed",
    "Bundle",
    "BundlePolicy",
    "DeadlineExceeded",
    "EvidenceOptions",
    "Finding",
    "MicroBatcher",
    "QueueFull",
    "Scorer",
    "SiteText",
    "Span",
]
