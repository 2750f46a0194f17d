"""Scoring with a bundle: numpy, onnxruntime and tokenizers are all it needs."""

from ..data.site_text import SiteText
from .assessment import Assessment, Finding, Span
from .bundle import Bundle, BundlePolicy
from .evidence import EvidenceOptions
from .online.microbatcher import BatcherClosed, DeadlineExceeded, MicroBatcher, QueueFull
from .scorer import Scorer

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
