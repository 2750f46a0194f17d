"""What bundle.json says of an exported run: the one place that writes it. `serve/bundle_reader.py` reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.files import sha256_file
from ..data.cleaning.text import CLEANING_VERSION
from ..data.taxonomy import Taxonomy
from ..serve.bundle import DOCUMENT, FORMAT_VERSION, Bundle, CascadeStage, Variant, document_digest
from ..serve.bundle_reader import parse_document
from ..train.calibration.platt_scaling import Calibration
from ..train.calibration.thresholds import PolicyThreshold, ReviewCertificate
from ..train.model.encoder import public_name
from ..train.run import LoadedRun
from .parity import Parity

_THRESHOLD_FIELDS = ("review", "block", "review_certificate", "block_certificate")
# The worst errors hold merchants' text, which stays in the run; the others serve only the run's report.
_KEPT_BY_THE_RUN = ("errors", "reliability", "confusions")


@dataclass(frozen=True, slots=True)
class DecisionRules:
    """How logits become decisions: the calibration and the certified thresholds of every policy."""

    taxonomy: Taxonomy
    calibration: Calibration
    thresholds: Sequence[PolicyThreshold]
    any_review: ReviewCertificate | None

    def to_json(self) -> dict[str, Any]:
        """The fields `policies` and, where there is such a limit, `any_violation`."""
        by_policy = {threshold.policy: threshold.to_json() for threshold in self.thresholds}
        scale, bias = self.calibration.scale.tolist(), self.calibration.bias.tolist()
        policies = [
            {
                "id": policy.id,
                "title": policy.title,
                "severity": policy.severity,
                "calibration": {"scale": scale[row], "bias": bias[row]},
                "thresholds": {key: by_policy[policy.id][key] for key in _THRESHOLD_FIELDS},
            }
            for row, policy in enumerate(self.taxonomy.policies)
        ]
        if self.any_review is None:
            return {"policies": policies}
        limit = {"review": self.any_review.threshold, "review_certificate": asdict(self.any_review)}
        return {"policies": policies, "any_violation": limit}


@dataclass(frozen=True, slots=True)
class Gate:
    """What a variant of reduced precision changes on held-out records, compared with float32."""

    records: int
    macro_average_precision: float
    macro_average_precision_fp32: float
    decisions_agreeing: float
    largest_probability_difference: float


@dataclass(frozen=True, slots=True)
class PassedVariant:
    """A variant beside the plain graph that passed its gate; one of reduced precision has rules of its own."""

    variant: Variant
    rules: DecisionRules | None = None
    gate: Gate | None = None

    def to_json(self) -> dict[str, Any]:
        """An entry of `variants`."""
        entry = {name: getattr(self.variant, name) for name in ("name", "graph", "engine", "precision")}
        entry |= {} if self.rules is None else self.rules.to_json()
        return entry | ({} if self.gate is None else {"gate": asdict(self.gate)})


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A variant that is not in the bundle, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class BundleDocument:
    """Everything that bundle.json says: of a run, of the files of its bundle, and of what the gates measured."""

    run: LoadedRun
    files: Mapping[str, str]
    parity: Sequence[Parity] = field(default=())
    variants: Sequence[PassedVariant] = field(default=())
    left_out: Sequence[LeftOut] = field(default=())
    cascade: CascadeStage | None = None

    @property
    def rules(self) -> DecisionRules:
        """The rules of the plain graph and of all variants without their own."""
        run = self.run
        return DecisionRules(run.taxonomy, run.rule.calibration, run.rule.thresholds, run.rule.any_review)

    def to_json(self) -> dict[str, Any]:
        """The content of bundle.json."""
        content = {**self._facts(), "files": dict(self.files), **self._measured()}
        return content | {"digest": document_digest(content)}

    def bundle(self, folder: Path) -> Bundle:
        """The bundle in `folder` by this document, before bundle.json is written.

        :raises BundleError: if a field is not as the format demands.
        """
        return parse_document(self.to_json(), folder)

    def _facts(self) -> dict[str, Any]:
        """What is known before anything is measured."""
        run, measured = self.run, self.run.metrics.get("test", {})
        return {
            "format_version": FORMAT_VERSION,
            "name": run.name,
            "version": run.settings.version,
            **self.rules.to_json(),
            "taxonomy": run.taxonomy.to_json(),
            "cleaning_version": CLEANING_VERSION,
            "window_tokens": run.settings.model.window_tokens,
            "stride_tokens": run.settings.model.stride_tokens,
            "max_windows": run.settings.model.max_windows,
            "pooling": run.settings.model.window_pooling,
            "base": run.base.to_json() | {"name": public_name(run.base.name)},
            "data_hash": run.data_hash,
            "metrics": {name: value for name, value in measured.items() if name not in _KEPT_BY_THE_RUN},
        }

    def _measured(self) -> dict[str, Any]:
        measured: dict[str, Any] = {
            "parity": [asdict(each) for each in self.parity],
            "variants": [each.to_json() for each in self.variants],
            "variants_left_out": [asdict(each) for each in self.left_out],
        }
        if self.cascade is not None:
            stage = asdict(self.cascade)
            measured["first_stage"] = stage | {"violating_scores": list(self.cascade.violating_scores)}
        return measured


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a bundle but bundle.json itself."""
    return {entry.name: sha256_file(entry) for entry in sorted(folder.iterdir()) if entry.name != DOCUMENT}
