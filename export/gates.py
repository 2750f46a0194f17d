"""The variants of a bundle, each through its gate: float32 must say what the trained model says, reduced precision must
decide alike and is calibrated and certified anew."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.decisions import pool
from ..core.errors import BundleError, ParityError
from ..data.taxonomy import Taxonomy
from ..serve.bundle import MODEL, Bundle, Variant, parse_document
from ..serve.engine.onnx_model import Model
from ..serve.engine.variants import open_variant, why_not
from ..serve.engine.workers import usable_cores
from ..serve.evidence import EvidenceOptions
from ..serve.postprocess import Concluder, by_text
from ..serve.preprocess import read_texts
from ..serve.scorer import BATCH_TOKENS, Scorer, load_tokenizer
from ..train.calibration.platt_scaling import Calibration
from ..train.calibration.thresholds import PolicyThreshold, ReviewCertificate
from ..train.evaluation.metrics import macro_average_precision
from ..train.evaluation.predictions import Predictions
from ..train.finalize import certify
from ..train.model.policy_model import PolicyModel
from ..train.run import LoadedRun
from ..train.run_files import PREDICTIONS
from .parity import Parity, TorchModel, check_parity, parity_cases
from .quantise import write_int8_graph

FUSED = "model.fused.onnx"
INT8 = "model.int8.onnx"
REDUCED = (
    Variant("openvino-bf16", MODEL, engine="openvino", precision="bf16"),
    Variant("openvino-int8", INT8, engine="openvino", precision="int8+bf16"),
    Variant("int8", INT8, precision="int8"),
)

# Of the average precision, and of all decisions on policies, that reduced precision may change.
AVERAGE_PRECISION_TOLERANCE = 0.002
AGREEMENT = 0.995

_THRESHOLD_FIELDS = ("review", "block", "review_certificate", "block_certificate")
_NO_EVIDENCE = EvidenceOptions(spans=0)


def decision_fields(
    taxonomy: Taxonomy,
    calibration: Calibration,
    thresholds: Sequence[PolicyThreshold],
    any_review: ReviewCertificate | None,
) -> dict[str, Any]:
    """The fields of bundle.json that say how logits become decisions: `policies` and, where set, `any_violation`."""
    by_policy = {threshold.policy: threshold.to_json() for threshold in thresholds}
    scale, bias = calibration.scale.tolist(), calibration.bias.tolist()
    policies = [
        {
            "id": policy.id,
            "title": policy.title,
            "severity": policy.severity,
            "calibration": {"scale": scale[row], "bias": bias[row]},
            "thresholds": {key: by_policy[policy.id][key] for key in _THRESHOLD_FIELDS},
        }
        for row, policy in enumerate(taxonomy.policies)
    ]
    if any_review is None:
        return {"policies": policies}
    limit = {"review": any_review.threshold, "review_certificate": asdict(any_review)}
    return {"policies": policies, "any_violation": limit}


@dataclass(frozen=True, slots=True)
class Proven:
    """Variants that passed, as entries of bundle.json; what the gate measured; and those left out, with the reason."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    parity: list[Parity] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)


def prove_exact(run: LoadedRun, bundle: Bundle, texts: Sequence[str], tolerance: float) -> Proven:
    """Put every float32 variant through the parity gate.

    :raises ParityError: if a graph of ours does not give the run's probabilities and decisions. Where only another
        engine does not, its variant is left out.
    """
    proven = Proven()
    trained = _scorer(bundle, TorchModel(run.model))
    cases = parity_cases(texts, max_windows=bundle.max_windows, window_tokens=bundle.window_tokens)
    fused = [Variant("fused", FUSED)] if (bundle.path / FUSED).is_file() else []
    for variant in (Variant("plain", MODEL), *fused, Variant("openvino", MODEL, engine="openvino")):
        if reason := why_not(variant):
            proven.left_out.append({"name": variant.name, "reason": reason})
            continue
        try:
            exported = _scorer(bundle, open_variant(bundle, variant, workers=usable_cores()))
            found = check_parity(trained, exported, cases, graph=_label(variant), tolerance=tolerance)
        except (ParityError, BundleError) as error:
            if variant.engine == "onnxruntime":
                raise
            proven.left_out.append({"name": variant.name, "reason": str(error)})
            continue
        proven.parity.append(found)
        if variant.name != "plain":
            proven.entries.append(_entry(variant))
    return proven


@dataclass(frozen=True, slots=True)
class Gate:
    """What a variant of reduced precision was found to change on held-out records, against float32."""

    records: int
    macro_average_precision: float
    macro_average_precision_fp32: float
    decisions_agreeing: float
    largest_probability_difference: float

    @property
    def fault(self) -> str | None:
        """Why it does not pass; None where it does."""
        lost = abs(self.macro_average_precision - self.macro_average_precision_fp32)
        if not lost <= AVERAGE_PRECISION_TOLERANCE:
            return f"average precision moves by {lost:.4f}, more than {AVERAGE_PRECISION_TOLERANCE}"
        if not self.decisions_agreeing >= AGREEMENT:
            return f"{self.decisions_agreeing:.2%} of the decisions agree, fewer than {AGREEMENT:.1%}"
        return None


def prove_reduced(run: LoadedRun, bundle: Bundle, *, int8: bool) -> Proven:
    """Put every variant of reduced precision through its gate; those in int8 where they are wanted."""
    proven = Proven()
    missing = _splits_missing(run)
    held_out = None if missing else _exact_logits(run, bundle)
    for variant in REDUCED:
        if variant.graph == INT8 and not int8:
            continue
        reason = why_not(variant) or missing
        if reason is None and not (bundle.path / variant.graph).is_file():
            reason = "the graph has no matrix products to compute in int8"
        if reason is None and held_out is not None:
            entry, gate = _prove(run, bundle, variant, held_out)
            reason = gate.fault
            if reason is None:
                proven.entries.append(entry | {"gate": asdict(gate)})
        if reason is not None:
            proven.left_out.append({"name": variant.name, "reason": reason})
    return proven


def write_quantised(run: LoadedRun, merged: PolicyModel, bundle: Bundle) -> None:
    """Write the int8 graph, its scales measured on the validation split: calibration and gate have texts of their own."""
    if not (run.path / PREDICTIONS / "validation.parquet").is_file():
        return
    tokenizer = load_tokenizer(bundle)
    readings = read_texts(_predictions(run, "validation").texts, tokenizer)
    windows = [ids for reading in readings for ids in reading.ids]
    write_int8_graph(
        merged, bundle.path / MODEL, bundle.path / INT8, windows=windows, pad_id=tokenizer.pad_id
    )


def _exact_logits(run: LoadedRun, bundle: Bundle) -> Predictions:
    """The test and validation splits with the logits of the plain graph: of few records one swap in a ranking would
    decide whether a variant passes."""
    exact = _scorer(bundle, open_variant(bundle, Variant("plain", MODEL), workers=usable_cores()))
    parts = [_predictions(run, split) for split in ("test", "validation")]
    texts = tuple(text for part in parts for text in part.texts)
    return Predictions(
        ids=tuple(each for part in parts for each in part.ids),
        logits=text_logits(exact, texts),
        labels=np.concatenate([part.labels for part in parts]),
        known=np.concatenate([part.known for part in parts]),
        domains=tuple(each for part in parts for each in part.domains),
        slices={},
        texts=texts,
    )


def _prove(
    run: LoadedRun, bundle: Bundle, variant: Variant, held_out: Predictions
) -> tuple[dict[str, Any], Gate]:
    """Calibrate and certify the variant on the calibration split, and compare it with float32 on what is held out."""
    reduced = _scorer(bundle, open_variant(bundle, variant, workers=usable_cores()))
    calibrating = _predictions(run, "calibration")
    calibrating = replace(calibrating, logits=text_logits(reduced, calibrating.texts))
    fields = decision_fields(run.taxonomy, *certify(calibrating, run.settings.thresholds, run.taxonomy))
    entry = _entry(variant) | fields
    own = parse_document(dict(bundle.document) | {"variants": [entry]}, bundle.path).for_variant(variant.name)
    exact = held_out.logits, Concluder(bundle, reduced.tokenizer, _NO_EVIDENCE)
    logits = text_logits(reduced, held_out.texts)
    return entry, _compare(held_out, exact, (logits, Concluder(own, reduced.tokenizer, _NO_EVIDENCE)))


def _compare(
    held_out: Predictions,
    exact: tuple[NDArray[np.float32], Concluder],
    reduced: tuple[NDArray[np.float32], Concluder],
) -> Gate:
    precision = [
        macro_average_precision(logits, held_out.labels, held_out.known) for logits, _ in (exact, reduced)
    ]
    judged = [[concluder.decide(row[None], None) for row in logits] for logits, concluder in (exact, reduced)]
    equal = [
        left[1][k] == right[1][k] for left, right in zip(*judged, strict=True) for k in range(len(left[1]))
    ]
    apart = [float(np.abs(left[0] - right[0]).max()) for left, right in zip(*judged, strict=True)]
    return Gate(
        records=len(held_out),
        macro_average_precision=precision[1],
        macro_average_precision_fp32=precision[0],
        decisions_agreeing=float(np.mean(equal)),
        largest_probability_difference=max(apart, default=0.0),
    )


def text_logits(scorer: Scorer, texts: Sequence[str]) -> NDArray[np.float32]:
    """Logits (N, K) of texts, pooled over their windows, before calibration."""
    readings = read_texts(texts, scorer.tokenizer)
    outputs = scorer.runner.run([ids for each in readings for ids in each.ids], batch_tokens=BATCH_TOKENS)
    return np.stack([pool(text.logits, text.scores) for text in by_text(readings, outputs)])


def _scorer(bundle: Bundle, model: Model) -> Scorer:
    return Scorer(bundle, model, load_tokenizer(bundle), evidence=_NO_EVIDENCE, workers=usable_cores())


def _entry(variant: Variant) -> dict[str, Any]:
    return {name: getattr(variant, name) for name in ("name", "graph", "engine", "precision")}


def _label(variant: Variant) -> str:
    return variant.graph if variant.engine == "onnxruntime" else f"{variant.graph} by {variant.engine}"


def _predictions(run: LoadedRun, split: str) -> Predictions:
    return Predictions.load(run.path / PREDICTIONS / f"{split}.parquet")


def _splits_missing(run: LoadedRun) -> str | None:
    for split in ("validation", "calibration", "test"):
        if not (run.path / PREDICTIONS / f"{split}.parquet").is_file():
            return f"the run keeps no predictions of its {split} split, which the gate needs"
    return None
