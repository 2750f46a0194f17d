"""The second half of a training job: calibration, thresholds, evaluation and the report of a trained model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.files import read_json, sha256_file, write_json, write_text
from ..data.shipped import phrase_records
from ..data.taxonomy import Taxonomy
from . import run_files as names
from .batching.dataset import SplitRecords
from .batching.shards import shard_paths
from .calibration.platt_scaling import Calibration, fit_calibration
from .calibration.thresholds import (
    PolicyThreshold,
    ReviewCertificate,
    fit_any_review,
    fit_thresholds,
    thresholds_to_json,
)
from .evaluation.evaluate import evaluate
from .evaluation.predictions import Predictions
from .report.card import run_card
from .report.report import write_report
from .run import environment
from .settings import Settings, ThresholdSettings


@dataclass(frozen=True, slots=True)
class Trained:
    """What training leaves for judging: predictions of the held-out splits, its log, figures of itself."""

    predictions: dict[str, Predictions]
    log: list[dict[str, Any]]
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Judged:
    """What card and report tell of: the trained model with its calibration, thresholds and figures on the test split."""

    trained: Trained
    settings: Settings
    data: SplitRecords
    calibration: Calibration
    thresholds: tuple[PolicyThreshold, ...]
    any_review: ReviewCertificate
    metrics: dict[str, Any]

    def counts(self) -> dict[str, int]:
        return {split: len(records) for split, records in self.data.records.items()}

    def limits(self) -> list[str]:
        counts, facts = self.counts(), self.trained.facts
        return [
            f"Figures are of {counts['test']} test records that share no domain and no near-duplicate with the "
            f"{counts['train']} of training; merchants written by other hands are harder.",
            f"Calibration and thresholds rest on {counts['calibration']} records: a policy with few positives among "
            "them has a calibration close to the common one, and mostly no certified block threshold.",
            f"Training stopped after {facts['steps']} steps; the weights are those of step {facts['best_step']}, best "
            "on the validation split.",
        ]


def judge(trained: Trained, settings: Settings, data: SplitRecords, folder: Path) -> None:
    """Calibrate and certify on the calibration split, evaluate, and write it all; metrics.json comes last."""
    for split, predictions in trained.predictions.items():
        predictions.save(folder / names.PREDICTIONS / f"{split}.parquet")
    calibration, thresholds, any_review = certify(
        trained.predictions["calibration"], settings.thresholds, data.taxonomy
    )
    write_json(folder / names.CALIBRATION, calibration.to_json())
    write_json(folder / names.THRESHOLDS, thresholds_to_json(thresholds, any_review))
    metrics = {
        split: evaluate(
            trained.predictions[split],
            calibration,
            thresholds,
            data.taxonomy,
            any_review=any_review.threshold,
        )
        for split in ("validation", "test")
    }
    judged = _Judged(trained, settings, data, calibration, thresholds, any_review, metrics["test"])
    _card(judged, folder)
    _report(judged, folder)
    write_json(folder / names.METRICS, metrics)


def _card(judged: _Judged, folder: Path) -> None:
    provenance = read_json(folder / names.PROVENANCE)
    shards = map(str, shard_paths(judged.settings.data.shards))
    phrases = phrase_records(judged.settings.data.phrasebook, judged.data.taxonomy)
    card = run_card(
        name=judged.settings.name,
        taxonomy=judged.data.taxonomy,
        base=provenance["base"],
        counts=judged.counts(),
        files=judged.data.files | {shard: sha256_file(Path(shard)) for shard in shards},
        data_hash=provenance["data_hash"],
        metrics=judged.metrics,
        thresholds=judged.thresholds,
        any_review=judged.any_review,
        training=judged.trained.facts | {"texts of the phrasebook, only trained on": len(phrases)},
        max_windows=judged.settings.model.max_windows,
        limits=judged.limits(),
    )
    write_text(folder / names.CARD, card)


def _report(judged: _Judged, folder: Path) -> None:
    write_report(
        folder / names.REPORT,
        metrics=judged.metrics,
        predictions=judged.trained.predictions["test"],
        calibration=judged.calibration,
        thresholds=judged.thresholds,
        any_review=judged.any_review,
        taxonomy=judged.data.taxonomy,
        log=judged.trained.log,
        title=f"{judged.settings.name}: test split",
        settings=judged.settings.model_dump(mode="json"),
        environment=environment(),
        data={"all splits": judged.data.data_hash(), **judged.data.files},
        limits=judged.limits(),
    )


def certify(
    predictions: Predictions, targets: ThresholdSettings, taxonomy: Taxonomy
) -> tuple[Calibration, tuple[PolicyThreshold, ...], ReviewCertificate]:
    """Calibration and thresholds from predictions of the calibration split."""
    calibration = fit_calibration(predictions.logits, predictions.labels, predictions.known)
    cells = (calibration.apply(predictions.logits), predictions.labels, predictions.known)
    thresholds = fit_thresholds(
        *cells,
        taxonomy.ids,
        clusters=predictions.domains,
        precision_target=targets.precision_target,
        recall_target=targets.recall_target,
        confidence=targets.confidence,
    )
    any_review = fit_any_review(
        *cells,
        clusters=predictions.domains,
        recall_target=targets.recall_target,
        confidence=targets.confidence,
    )
    return calibration, thresholds, any_review
