"""What bundle.json says of an exported run: the one place that writes it. `serve/bundle_reader.py` reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.files import sha256_file
from ..data.cleaning.text import CLEANING_VERSION
from ..data.taxonomy import Taxonomy
from ..serve.bundle import DOCUMENT, FORMAT_VERSION, Bundle, CascadeStage, Variant, document_digest
from ..serve.bundle_reader import parse_document
from ..train.evaluation.decision_rule import DecisionRule
from ..train.model.encoder import public_name
from ..train.run import LoadedRun
from .parity import Parity

_THRESHOLD_FIELDS = ("review", "block", "review_certificate", "block_certificate")
# The worst errors hold merchants' text, which stays in the run; the others serve only the run's report.
_KEPT_BY_THE_RUN = ("errors", "reliability", "confusions")


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
    """A variant beside the plain graph that passed its gate; one of reduced precision has its own decision rule."""

    variant: Variant
    rule: DecisionRule | None = None
    gate: Gate | None = None

    def to_json(self, taxonomy: Taxonomy) -> dict[str, Any]:
        """An entry of `variants`."""
        entry = {name: getattr(self.variant, name) for name in ("name", "graph", "engine", "precision")}
        entry |= {} if self.rule is None else decision_fields(taxonomy, self.rule)
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
            **decision_fields(run.taxonomy, run.rule),
            "taxonomy": run.taxonomy.to_json(),
            "cleaning_version": CLEANING_VERSION,
            "window_tokens": run.settings.model.window_tokens,
            "stride_tokens": run.settings.model.stride_tokens,
            "max_windows": run.settings.model.max_windows,
            "pooling": run.settings.model.window_pooling,
            "languages": list(run.settings.model.languages),
            "base": run.base.to_json() | {"name": public_name(run.base.name)},
            "data_hash": run.data_hash,
            "metrics": {name: value for name, value in measured.items() if name not in _KEPT_BY_THE_RUN},
        }

    def _measured(self) -> dict[str, Any]:
        measured: dict[str, Any] = {
            "parity": [asdict(each) for each in self.parity],
            "variants": [each.to_json(self.run.taxonomy) for each in self.variants],
            "variants_left_out": [asdict(each) for each in self.left_out],
        }
        if self.cascade is not None:
            stage = asdict(self.cascade)
            measured["first_stage"] = stage | {"violating_scores": list(self.cascade.violating_scores)}
        return measured


def decision_fields(taxonomy: Taxonomy, rule: DecisionRule) -> dict[str, Any]:
    """The fields that say how logits become decisions.

    `policies`, `prevalence` (null where probabilities are not shifted), `any_violation`, and `pooled_block`, the
    certificate that policies share, null where none does.
    """
    by_policy = {threshold.policy: threshold.to_json() for threshold in rule.thresholds}
    calibration = rule.calibration
    length = np.broadcast_to(calibration.length, calibration.scale.shape).tolist()
    scale, bias = calibration.scale.tolist(), calibration.bias.tolist()
    policies = [
        {
            "id": policy.id,
            "title": policy.title,
            "severity": policy.severity,
            "calibration": {"scale": scale[row], "bias": bias[row], "length": length[row]},
            "thresholds": {key: by_policy[policy.id][key] for key in _THRESHOLD_FIELDS},
        }
        for row, policy in enumerate(taxonomy.policies)
    ]
    limit = {"review": 0.0} if rule.any_review is None else {"review": rule.any_review.threshold}
    certificate = {} if rule.any_review is None else {"review_certificate": asdict(rule.any_review)}
    return {
        "policies": policies,
        "prevalence": None if calibration.prevalence is None else asdict(calibration.prevalence),
        "any_violation": {**asdict(calibration.any_violation), **limit, **certificate},
        "pooled_block": None if rule.pooled is None else asdict(rule.pooled),
    }


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a bundle but bundle.json itself."""
    return {entry.name: sha256_file(entry) for entry in sorted(folder.iterdir()) if entry.name != DOCUMENT}
