"""The second half of a training job: calibration, thresholds, evaluation and the report of a trained model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.files import read_json, sha256_file, write_json, write_text
from ..data.policy import Taxonomy
from . import run_files as names
from .calibration import Calibration, fit_calibration
from .card import run_card
from .dataset import SplitRecords
from .evaluation import evaluate
from .predictions import Predictions
from .report import write_report
from .run import environment
from .settings import Settings, ThresholdSettings
from .shards import shard_paths
from .thresholds import (
    PolicyThreshold,
    ReviewCertificate,
    fit_any_review,
    fit_thresholds,
    thresholds_to_json,
)


@dataclass(frozen=True, slots=True)
class Trained:
    """What training leaves for judging: predictions of the held-out splits, its log, figures of itself."""

    predictions: dict[str, Predictions]
    log: list[dict[str, Any]]
    facts: dict[str, Any]


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
    _card(trained, metrics["test"], thresholds, any_review, settings, data, folder)
    _report(trained, metrics["test"], calibration, thresholds, any_review, settings, data, folder)
    write_json(folder / names.METRICS, metrics)


def _limits(metrics: dict[str, Any], facts: dict[str, Any], data: SplitRecords) -> list[str]:
    counts = {split: len(records) for split, records in data.records.items()}
    return [
        f"Figures are of {counts['test']} test records that share no domain and no near-duplicate with the "
        f"{counts['train']} of training; merchants written by other hands are harder.",
        f"Calibration and thresholds rest on {counts['calibration']} records: a policy with few positives among "
        "them has a calibration close to the common one, and mostly no certified block threshold.",
        f"Training stopped after {facts['steps']} steps; the weights are those of step {facts['best_step']}, best "
        "on the validation split.",
    ]


def _card(
    trained: Trained,
    metrics: dict[str, Any],
    thresholds: tuple[PolicyThreshold, ...],
    any_review: ReviewCertificate,
    settings: Settings,
    data: SplitRecords,
    folder: Path,
) -> None:
    provenance = read_json(folder / names.PROVENANCE)
    card = run_card(
        name=settings.name,
        taxonomy=data.taxonomy,
        base=provenance["base"],
        counts={split: len(records) for split, records in data.records.items()},
        files=data.files
        | {shard: sha256_file(Path(shard)) for shard in map(str, shard_paths(settings.data.shards))},
        data_hash=provenance["data_hash"],
        metrics=metrics,
        thresholds=thresholds,
        any_review=any_review,
        training=trained.facts,
        max_windows=settings.model.max_windows,
        limits=_limits(metrics, trained.facts, data),
    )
    write_text(folder / names.CARD, card)


def _report(
    trained: Trained,
    metrics: dict[str, Any],
    calibration: Any,
    thresholds: tuple[PolicyThreshold, ...],
    any_review: ReviewCertificate,
    settings: Settings,
    data: SplitRecords,
    folder: Path,
) -> None:
    write_report(
        folder / names.REPORT,
        metrics=metrics,
        predictions=trained.predictions["test"],
        calibration=calibration,
        thresholds=thresholds,
        any_review=any_review,
        taxonomy=data.taxonomy,
        log=trained.log,
        title=f"{settings.name}: test split",
        settings=settings.model_dump(mode="json"),
        environment=environment(),
        data={"all splits": data.data_hash(), **data.files},
        limits=_limits(metrics, trained.facts, data),
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
