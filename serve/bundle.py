"""A bundle: everything that scoring needs, in one folder. `bundle_reader` reads and checks it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import decisions as rules
from ..core.decisions import Decision
from ..core.errors import BundleError

FORMAT_VERSION = 1
DOCUMENT = "bundle.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
POOLINGS = ("max", "attention")
ENGINES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "int8", "int8+bf16")


@dataclass(frozen=True, slots=True)
class BundlePolicy:
    """One output of the model: its calibration and the thresholds of its decisions."""

    id: str
    title: str
    severity: str
    scale: float
    bias: float
    review: float
    block: float | None


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the model: a graph of the bundle, the engine that runs it and the precision it computes in.

    A variant of reduced precision has its own calibration and thresholds: `policies` and `any_review`, None where
    those of the bundle hold.
    """

    name: str
    graph: str
    engine: str = "onnxruntime"
    precision: str = "fp32"
    policies: tuple[BundlePolicy, ...] | None = None
    any_review: float | None = None


@dataclass(frozen=True, slots=True)
class CascadeStage:
    """The cheap first stage of a cascade, `first_stage` in bundle.json.

    :param graph: the name of its file.
    :param confidence: of every certificate that is made from the scores.
    :param violating_scores: its scores of violating calibration texts, rising.
    """

    graph: str
    confidence: float
    violating_scores: tuple[float, ...]


@dataclass(frozen=True)
class Bundle:
    """A checked bundle; `document` is all of bundle.json, certificates and metrics included.

    A text whose probability of any violation is below `any_review` goes to no review.
    """

    path: Path
    name: str
    version: str
    policies: tuple[BundlePolicy, ...]
    window_tokens: int
    stride_tokens: int
    max_windows: int
    pooling: str
    any_review: float
    variants: tuple[Variant, ...]
    cascade: CascadeStage | None
    files: Mapping[str, str]
    digest: str
    document: Mapping[str, Any] = field(repr=False)

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def variant(self, name: str) -> Variant:
        """The variant of that name; "plain", model.onnx as any ONNX Runtime runs it, is always there.

        :raises BundleError: if the bundle has no such variant.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(variant.name for variant in self.variants)
        raise BundleError(f"{self.path}: no variant {name!r}; it has {known}")

    def for_variant(self, name: str) -> "Bundle":
        """The bundle as that variant decides: with the variant's own calibration and thresholds where it has them.

        :raises BundleError: if the bundle has no such variant.
        """
        variant = self.variant(name)
        policies = self.policies if variant.policies is None else variant.policies
        limit = self.any_review if variant.any_review is None else variant.any_review
        return replace(self, policies=policies, any_review=limit)

    @cached_property
    def calibration(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale and bias, float64 (K,) each."""
        scale = np.array([policy.scale for policy in self.policies], dtype=np.float64)
        return scale, np.array([policy.bias for policy in self.policies], dtype=np.float64)

    def decide(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[Decision]]:
        """Probabilities (K,), read-only, and the decision on each policy, from a text's pooled logits (K,)."""
        probabilities = rules.calibrate(logits, *self.calibration)
        # Equal texts of a stream share one assessment, so nobody may write to it.
        probabilities.setflags(write=False)
        decisions = [
            rules.decide(float(probability), policy.review, policy.block)
            for probability, policy in zip(probabilities, self.policies, strict=True)
        ]
        if float(np.float32(rules.any_violation(probabilities))) < self.any_review:
            decisions = ["clear" if decision == "review" else decision for decision in decisions]
        return probabilities, decisions


def document_digest(document: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of what bundle.json says, which includes the hash of every other file.

    It is taken over the JSON without `digest` itself, keys sorted, no spaces, in ASCII: layout does not change it.
    """
    content = {key: value for key, value in document.items() if key != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
