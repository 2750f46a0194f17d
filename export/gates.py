"""The gates of a bundle's variants.

In float32 a variant must give what the trained model gives (parity). In reduced precision it must decide almost alike on
held-out records, and gets its own calibration and certified thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.errors import BundleError, ParityError
from ..core.labels import LabelMatrix
from ..serve.bundle import MODEL, Bundle, Variant
from ..serve.engine.onnx_model import Floats, Model
from ..serve.engine.variants import open_variant, unsupported_reason
from ..serve.engine.workers import usable_cores
from ..serve.evidence import EvidenceOptions
from ..serve.preprocess import encode_texts
from ..serve.scorer import Scorer, load_tokenizer
from ..train.evaluation.metrics import macro_average_precision
from ..train.evaluation.predictions import Predictions
from ..train.finalize import certify
from ..train.model.policy_model import PolicyModel
from ..train.run import LoadedRun
from .document import BundleDocument, Gate, LeftOut, PassedVariant
from .parity import Parity, ParityCheck, TorchModel
from .quantise import write_int8_graph

FUSED = "model.fused.onnx"
INT8 = "model.int8.onnx"
REDUCED = (
    Variant("openvino-bf16", MODEL, engine="openvino", precision="bf16"),
    Variant("openvino-int8", INT8, engine="openvino", precision="int8+bf16"),
    Variant("int8", INT8, precision="int8"),
)

# How far reduced precision may move the average precision, and the share of decisions that must stay the same.
AVERAGE_PRECISION_TOLERANCE = 0.002
AGREEMENT = 0.995

_NO_EVIDENCE = EvidenceOptions(spans=0)


@dataclass(frozen=True, slots=True)
class Checked:
    """Variants that passed, beside the plain one; what parity measured; and the variants that are left out."""

    passed: list[PassedVariant] = field(default_factory=list)
    parity: list[Parity] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def check_exact(run: LoadedRun, bundle: Bundle, texts: Sequence[str], tolerance: float) -> Checked:
    """Put every float32 variant through the parity gate.

    :raises ParityError: if a graph run by ONNX Runtime does not give the run's probabilities, decisions and attribution.
        A variant of another engine that does not is left out.
    """
    checked = Checked()
    trained = TorchModel(run.model)
    check = ParityCheck(_scorer(bundle, trained), trained, texts, tolerance=tolerance)
    fused = [Variant("fused", FUSED)] if (bundle.path / FUSED).is_file() else []
    for variant in (Variant("plain", MODEL), *fused, Variant("openvino", MODEL, engine="openvino")):
        if reason := unsupported_reason(variant):
            checked.left_out.append(LeftOut(variant.name, reason))
            continue
        try:
            model = open_variant(bundle, variant, workers=usable_cores())
            found = check.run(_scorer(bundle, model), model, graph=_label(variant))
        except (ParityError, BundleError) as error:
            if variant.engine == "onnxruntime":
                raise
            checked.left_out.append(LeftOut(variant.name, str(error)))
            continue
        checked.parity.append(found)
        if variant.name != "plain":
            checked.passed.append(PassedVariant(variant))
    return checked


def check_reduced(run: LoadedRun, bundle: Bundle, *, int8: bool) -> Checked:
    """Put every variant of reduced precision through its gate; those in int8 only where they are asked for."""
    checked = Checked()
    missing = _splits_missing(run)
    held_out = None if missing else _exact_predictions(run, bundle)
    for variant in REDUCED:
        if variant.graph == INT8 and not int8:
            continue
        reason = unsupported_reason(variant) or missing
        if reason is None and not (bundle.path / variant.graph).is_file():
            reason = "the graph has no matrix products to compute in int8"
        if reason is None and held_out is not None:
            passed, gate = _certified(run, bundle, variant, held_out)
            reason = gate_fault(gate)
            if reason is None:
                checked.passed.append(passed)
        if reason is not None:
            checked.left_out.append(LeftOut(variant.name, reason))
    return checked


def gate_fault(gate: Gate) -> str | None:
    """Why a variant of reduced precision does not pass; None where it does."""
    lost = abs(gate.macro_average_precision - gate.macro_average_precision_fp32)
    if not lost <= AVERAGE_PRECISION_TOLERANCE:
        return f"average precision moves by {lost:.4f}, more than {AVERAGE_PRECISION_TOLERANCE}"
    if not gate.decisions_agreeing >= AGREEMENT:
        return f"{gate.decisions_agreeing:.2%} of the decisions agree, fewer than {AGREEMENT:.1%}"
    return None


def write_quantised(run: LoadedRun, merged: PolicyModel, bundle: Bundle) -> None:
    """Write the int8 graph. Its scales are measured on the validation split: calibration and test have other texts."""
    if not run.has_predictions("validation"):
        return
    tokenizer = load_tokenizer(bundle)
    texts = encode_texts(run.predictions("validation").texts, tokenizer)
    windows = [ids for encoded in texts for ids in encoded.ids]
    write_int8_graph(
        merged, bundle.path / MODEL, bundle.path / INT8, windows=windows, pad_id=tokenizer.pad_id
    )


def _exact_predictions(run: LoadedRun, bundle: Bundle) -> Predictions:
    """The test and validation splits with the logits of the plain graph.

    Both, because among few records a single swap in a ranking would decide whether a variant passes.
    """
    exact = _scorer(bundle, open_variant(bundle, Variant("plain", MODEL), workers=usable_cores()))
    parts = [run.predictions(split) for split in ("test", "validation")]
    texts = tuple(text for part in parts for text in part.texts)
    return Predictions(
        ids=tuple(each for part in parts for each in part.ids),
        logits=exact.logits(texts),
        labels=LabelMatrix(
            np.concatenate([part.labels.values for part in parts]),
            np.concatenate([part.labels.mask for part in parts]),
        ),
        domains=tuple(each for part in parts for each in part.domains),
        slices={},
        texts=texts,
        windows=np.concatenate([part.windows for part in parts]),
    )


def _certified(
    run: LoadedRun, bundle: Bundle, variant: Variant, held_out: Predictions
) -> tuple[PassedVariant, Gate]:
    """Calibrate and certify the variant on the calibration split, and compare it with float32 on held-out records."""
    scorer = _scorer(bundle, open_variant(bundle, variant, workers=usable_cores()))
    calibrating = run.predictions("calibration")
    calibrating = replace(calibrating, logits=scorer.logits(calibrating.texts))
    rule = certify(calibrating, run.settings.thresholds, run.taxonomy)
    listed = BundleDocument(run, bundle.files, variants=[PassedVariant(variant, rule)])
    own = listed.bundle(bundle.path).for_variant(variant.name)
    gate = _compare(held_out, scorer.logits(held_out.texts), exact=bundle, reduced=own)
    return PassedVariant(variant, rule, gate), gate


def _compare(held_out: Predictions, logits: Floats, *, exact: Bundle, reduced: Bundle) -> Gate:
    """Compare reduced precision with float32, whose logits `held_out` holds, each by its own calibration and thresholds.

    :param logits: (N, K) in reduced precision.
    """
    precision = [macro_average_precision(each, held_out.labels) for each in (logits, held_out.logits)]
    windows = held_out.windows.tolist()
    expected = [exact.decide(*row) for row in zip(held_out.logits, windows, strict=True)]
    found = [reduced.decide(*row) for row in zip(logits, windows, strict=True)]
    pairs = list(zip(expected, found, strict=True))
    equal = [
        decision == other
        for left, right in pairs
        for decision, other in zip(left.decisions, right.decisions, strict=True)
    ]
    apart = [float(np.abs(left.probabilities - right.probabilities).max()) for left, right in pairs]
    return Gate(
        records=len(held_out),
        macro_average_precision=precision[0],
        macro_average_precision_fp32=precision[1],
        decisions_agreeing=float(np.mean(equal)),
        largest_probability_difference=max(apart, default=0.0),
    )


def _scorer(bundle: Bundle, model: Model) -> Scorer:
    return Scorer(bundle, model, load_tokenizer(bundle), evidence=_NO_EVIDENCE, workers=usable_cores())


def _label(variant: Variant) -> str:
    return variant.graph if variant.engine == "onnxruntime" else f"{variant.graph} by {variant.engine}"


def _splits_missing(run: LoadedRun) -> str | None:
    for split in ("validation", "calibration", "test"):
        if not run.has_predictions(split):
            return f"the run keeps no predictions of its {split} split, which the gate needs"
    return None
