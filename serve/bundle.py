"""A bundle: everything that scoring needs, in one folder. `bundle_reader` reads and checks it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core import decisions as rules
from ..core.decisions import UNCHANGED, AnyCalibration, Calibration, Decision, Prevalence
from ..core.errors import BundleError

FORMAT_VERSION = 1
DOCUMENT = "bundle.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
POOLINGS = ("max", "attention")
ENGINES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "int8", "int8+bf16")
SCOPES = ("policy", "pooled")
Scope = Literal["policy", "pooled"]


@dataclass(frozen=True, slots=True)
class BundlePolicy:
    """One output of the model: its calibration and the thresholds of its decisions.

    `block_scope` says what the certificate of its block threshold is about: "policy", its own blocks; "pooled", the blocks
    of several policies together; None without a block threshold.
    """

    id: str
    title: str
    severity: str
    scale: float
    bias: float
    review: float
    block: float | None
    length: float = 0.0
    block_scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class AnyViolation:
    """The probability of any violation: its calibration, and the limit below which a text goes to no review."""

    review: float = 0.0
    calibration: AnyCalibration = UNCHANGED


@dataclass(frozen=True, slots=True, eq=False)
class DecidedText:
    """A text's probabilities, (K,) read-only and of any violation, both float32, and the decision on each policy."""

    probabilities: NDArray[np.float32]
    any_violation: np.float32
    decisions: list[Decision]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the model: a graph of the bundle, the engine that runs it and the precision it computes in.

    A variant of reduced precision has its own calibration and thresholds: `policies`, with a `prevalence` of their own,
    and `any_violation`, None where those of the bundle hold.
    """

    name: str
    graph: str
    engine: str = "onnxruntime"
    precision: str = "fp32"
    policies: tuple[BundlePolicy, ...] | None = None
    any_violation: AnyViolation | None = None
    prevalence: Prevalence | None = None


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

    `languages` are those that the model reads (ISO 639); empty where it says none, and no text is checked for its language.

    `prevalence` is what the probabilities are stated for; None where they hold for texts like the calibration records.
    """

    path: Path
    name: str
    version: str
    policies: tuple[BundlePolicy, ...]
    window_tokens: int
    stride_tokens: int
    max_windows: int
    pooling: str
    any_violation: AnyViolation
    prevalence: Prevalence | None
    variants: tuple[Variant, ...]
    cascade: CascadeStage | None
    files: Mapping[str, str]
    digest: str
    document: Mapping[str, Any] = field(repr=False)
    languages: tuple[str, ...] = ()

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
        some = self.any_violation if variant.any_violation is None else variant.any_violation
        if variant.policies is None:
            return replace(self, any_violation=some)
        return replace(self, policies=variant.policies, any_violation=some, prevalence=variant.prevalence)

    @property
    def any_review(self) -> float:
        """The probability of any violation below which a text goes to no review."""
        return self.any_violation.review

    @cached_property
    def calibration(self) -> Calibration:
        """How logits become probabilities."""
        scale, bias, length = (
            np.array([getattr(policy, name) for policy in self.policies], dtype=np.float64)
            for name in ("scale", "bias", "length")
        )
        return Calibration(scale, bias, length, self.any_violation.calibration, self.prevalence)

    def decide(self, logits: NDArray[np.float32], windows: int) -> DecidedText:
        """Probabilities and decisions from a text's logits (K,), pooled over its `windows`."""
        found = self.calibration.probabilities(logits[None], [windows])
        probabilities, some = found.policies[0], found.any_violation[0]
        # Equal texts of a stream share one assessment, so nobody may write to it.
        probabilities.setflags(write=False)
        decisions = [
            rules.decide(float(probability), policy.review, policy.block)
            for probability, policy in zip(probabilities, self.policies, strict=True)
        ]
        if float(some) < self.any_review:
            decisions = ["clear" if decision == "review" else decision for decision in decisions]
        return DecidedText(probabilities, some, decisions)


def document_digest(document: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of what bundle.json says, which includes the hash of every other file.

    It is taken over the JSON without `digest` itself, keys sorted, no spaces, in ASCII: layout does not change it.
    """
    content = {key: value for key, value in document.items() if key != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
