"""A bundle's decisions fitted to a user's own merchants: the model stays, what is made of its logits changes.

Every variant of the bundle is scored on the records. Those in float32 share one rule, as they give the same logits; one of
reduced precision gets its own and passes its gate again, or is left out.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import RecordError
from ...core.files import atomic_folder, sha256_file, write_json, write_text
from ...data.records.fingerprint import fingerprint_records
from ...data.records.record import Record
from ...data.taxonomy import Taxonomy
from ...export.document import decision_fields
from ...export.gates import AGREEMENT
from ...export.golden import GOLDEN, write_golden
from ...serve.bundle import DOCUMENT, Bundle, Variant, document_digest
from ...serve.bundle_reader import parse_document, read_bundle
from ...serve.engine.variants import open_variant, unsupported_reason
from ...serve.engine.workers import usable_cores
from ...serve.evidence import EvidenceOptions
from ...serve.preprocess import encode_texts
from ...serve.scorer import Scorer, load_tokenizer
from ...train.evaluation.decision_rule import DecisionRule
from ...train.evaluation.predictions import Predictions
from ...train.finalize import certify
from ...train.run import record_predictions
from ...train.settings import ThresholdSettings

LEAST_RECORDS, LEAST_OF_A_KIND = 40, 10
_FOLDS = 2
_CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Figures:
    """How a bundle decides on labelled records.

    Means over violating and over ordinary records, so that they hold for any prevalence; None where there are none.

    :param expected, observed: mean probability of any violation and share that violates, records weighted to the stated
        prevalence: equal where probabilities are right on average.
    """

    records: int
    violating: int
    found: float | None
    ordinary_to_review: float | None
    blocked: int
    blocked_right: int
    expected: float
    observed: float


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """The new bundle, with the figures of the old and the new decisions on the records.

    `after` is cross-fitted: each half of the records is decided by what the other half fits.
    """

    bundle: Bundle
    before: Figures
    after: Figures
    certified: int
    left_out: tuple[str, ...]


def recalibrate(
    path: Path,
    records: Sequence[Record],
    out: Path,
    *,
    targets: ThresholdSettings,
    version: str | None = None,
) -> Recalibrated:
    """Write a new bundle into `out` whose decisions are fitted to labelled records.

    :param targets: what thresholds guarantee, and the prevalence that they are stated for.
    :param version: of the new bundle; by default the old one's with the hash of the records.
    :raises RecordError: if there are too few records of either kind.
    :raises BundleError: if the bundle cannot be read.
    """
    old = read_bundle(path)
    taxonomy = Taxonomy.from_json(dict(old.document["taxonomy"]))
    labelled = [record for record in records if len(record.unknown) < len(taxonomy)]
    _check_counts(labelled)
    plain = _predictions(old, old.variant("plain"), labelled, taxonomy)
    rule = certify(plain, targets, taxonomy)
    data_hash = fingerprint_records(labelled)
    document = dict(old.document) | decision_fields(taxonomy, rule)
    document |= {
        "version": version or f"{old.version}+{data_hash[:8]}",
        "recalibrated": {
            "from": {"version": old.version, "digest": old.digest},
            "records": len(labelled),
            "data_hash": data_hash,
            "thresholds": targets.model_dump(mode="json"),
        },
    }
    document["variants"], left_out = _variants(old, plain, labelled, taxonomy, rule, targets)
    _write(old, document, out)
    new = read_bundle(out)
    return Recalibrated(
        bundle=new,
        before=_figures(old, plain, targets),
        after=_cross_fitted(old, plain, targets, taxonomy),
        certified=sum(policy.block is not None for policy in new.policies),
        left_out=tuple(left_out),
    )


def _check_counts(labelled: Sequence[Record]) -> None:
    violating = sum(bool(record.labels) for record in labelled)
    ordinary = len(labelled) - violating
    if len(labelled) < LEAST_RECORDS or violating < LEAST_OF_A_KIND or ordinary < LEAST_OF_A_KIND:
        raise RecordError(
            f"{len(labelled)} labelled records, {violating} of them violating, are too few to recalibrate with: at least "
            f"{LEAST_RECORDS}, and {LEAST_OF_A_KIND} of either kind"
        )


def _predictions(
    bundle: Bundle, variant: Variant, records: Sequence[Record], taxonomy: Taxonomy
) -> Predictions:
    """Logits of the records by a variant, with their labels."""
    tokenizer = load_tokenizer(bundle)
    cores = usable_cores()
    model = open_variant(bundle, variant, workers=cores)
    scorer = Scorer(bundle, model, tokenizer, evidence=EvidenceOptions(spans=0), workers=cores)
    texts = [record.text for record in records]
    windows = [len(encoded.ids) for encoded in encode_texts(texts, tokenizer)]
    return record_predictions(records, taxonomy, scorer.logits(texts), windows)


def _variants(
    old: Bundle,
    plain: Predictions,
    records: Sequence[Record],
    taxonomy: Taxonomy,
    rule: DecisionRule,
    targets: ThresholdSettings,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries of `variants` that stay, those of reduced precision with rules of their own; and why others go."""
    kept, left_out = [], []
    for entry in old.document.get("variants", []):
        variant = old.variant(entry["name"])
        if "policies" not in entry:
            kept.append(entry)
            continue
        if reason := unsupported_reason(variant):
            left_out.append(f"{variant.name}: {reason}")
            continue
        reduced = _predictions(old, variant, records, taxonomy)
        own = certify(reduced, targets, taxonomy)
        agreeing = _agreement(rule, plain, own, reduced)
        if agreeing < AGREEMENT:
            left_out.append(
                f"{variant.name}: {agreeing:.2%} of the decisions agree, fewer than {AGREEMENT:.1%}"
            )
            continue
        gate = dict(entry.get("gate", {})) | {"records": len(records), "decisions_agreeing": agreeing}
        kept.append(entry | decision_fields(taxonomy, own) | {"gate": gate})
    return kept, left_out


def _agreement(exact: DecisionRule, plain: Predictions, own: DecisionRule, reduced: Predictions) -> float:
    """Share of the decisions by policy that two variants agree on."""
    return float(np.mean(_decisions(exact, plain) == _decisions(own, reduced)))


def _decisions(rule: DecisionRule, predictions: Predictions) -> NDArray[np.str_]:
    """Decisions (N, K) by policy, the limit of any violation included."""
    found = rule.calibration.probabilities(predictions.logits, predictions.windows.tolist())
    review = np.array([each.review for each in rule.thresholds], dtype=np.float32)
    block = np.array(
        [np.inf if each.block is None else each.block for each in rule.thresholds], dtype=np.float32
    )
    limit = 0.0 if rule.any_review is None else rule.any_review.threshold
    decided = np.where(found.policies >= review, "review", "clear")
    decided = np.where(found.any_violation[:, None] < limit, "clear", decided)
    return np.asarray(np.where(found.policies >= block, "block", decided))


def _write(old: Bundle, document: dict[str, Any], out: Path) -> None:
    """The new bundle's folder: the old one's files, golden texts and card by the new decisions, and bundle.json."""
    with atomic_folder(out) as folder:
        for name in old.files:
            shutil.copyfile(old.path / name, folder / name)
        document["files"] = dict(old.files)
        write_golden(parse_document(_signed(document), folder), folder)
        card = (folder / _CARD).read_text(encoding="utf-8") if (folder / _CARD).exists() else ""
        write_text(folder / _CARD, card + _card_note(document))
        names = {*old.files, GOLDEN, _CARD}
        document["files"] = {name: sha256_file(folder / name) for name in sorted(names)}
        write_json(folder / DOCUMENT, _signed(document))
        read_bundle(folder)


def _signed(document: dict[str, Any]) -> dict[str, Any]:
    content = {key: value for key, value in document.items() if key != "digest"}
    return content | {"digest": document_digest(content)}


def _card_note(document: dict[str, Any]) -> str:
    facts = document["recalibrated"]
    return (
        f"\n## Recalibrated\n\nVersion {document['version']}: calibration, thresholds and certificates are fitted to "
        f"{facts['records']:,} records of the user (hash {facts['data_hash'][:12]}), not to those named above; the model "
        f"is that of version {facts['from']['version']}.\n"
    )


def _figures(bundle: Bundle, predictions: Predictions, targets: ThresholdSettings) -> Figures:
    """Figures of a bundle's own decisions."""
    decided = [
        bundle.decide(logits, int(windows))
        for logits, windows in zip(predictions.logits, predictions.windows, strict=True)
    ]
    decisions = np.array([each.decisions for each in decided])
    some = np.array([each.any_violation for each in decided], dtype=np.float64)
    return _summary(decisions, some, predictions, targets)


def _cross_fitted(
    old: Bundle, predictions: Predictions, targets: ThresholdSettings, taxonomy: Taxonomy
) -> Figures:
    """Figures where each half of the domains is decided by what the other half fits."""
    domains = sorted(set(predictions.domains))
    fold_of = {domain: number % _FOLDS for number, domain in enumerate(domains)}
    folds = np.array([fold_of[domain] for domain in predictions.domains])
    decisions = np.empty(predictions.logits.shape, dtype="<U6")
    some = np.empty(len(predictions))
    for fold in range(_FOLDS):
        rule = certify(predictions.select(folds != fold), targets, taxonomy)
        held_out = predictions.select(folds == fold)
        decisions[folds == fold] = _decisions(rule, held_out)
        found = rule.calibration.probabilities(held_out.logits, held_out.windows.tolist())
        some[folds == fold] = found.any_violation
    return _summary(decisions, some, predictions, targets)


def _summary(
    decisions: NDArray[np.str_],
    some: NDArray[np.float64],
    predictions: Predictions,
    targets: ThresholdSettings,
) -> Figures:
    labels = predictions.labels
    truth, known = labels.values >= 0.5, labels.mask
    violating = (truth & known).any(axis=1)
    seen = (decisions != "clear").any(axis=1)
    blocks = (decisions == "block") & known
    share = float(violating.mean())
    stated = share if targets.prevalence is None else targets.prevalence
    weights = np.where(violating, stated / max(share, 1e-12), (1 - stated) / max(1 - share, 1e-12))
    return Figures(
        records=len(predictions),
        violating=int(violating.sum()),
        found=float(seen[violating].mean()) if violating.any() else None,
        ordinary_to_review=float(seen[~violating].mean()) if (~violating).any() else None,
        blocked=int(blocks.sum()),
        blocked_right=int((blocks & truth).sum()),
        expected=float(np.average(some, weights=weights)),
        observed=stated,
    )


def report(found: Recalibrated) -> dict[str, Any]:
    """The figures as JSON."""
    return {
        "bundle": found.bundle.label,
        "digest": found.bundle.digest,
        "before": asdict(found.before),
        "after_cross_fitted": asdict(found.after),
        "policies_that_block": found.certified,
        "variants_left_out": list(found.left_out),
    }
