"""What the audit is worth: models trained on given and on corrected labels, compared on records that it did not touch."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AuditError
from ...core.labels import LabelMatrix
from ...data.records.record import Record, parse_record
from ...data.splitting.splits import SplitManifest, make_splits
from ...data.taxonomy import Taxonomy
from ...train.batching.dataset import SplitRecords
from ...train.evaluation import metrics
from ...train.evaluation.bootstrap import cluster_interval
from ...train.evaluation.predictions import Predictions
from ...train.fitting.checkpoint import fingerprint
from ...train.pipeline import train_run
from ...train.run import METRICS, predictions_file, read_rule
from ...train.settings import Settings
from ..apply.edits import relabelled
from ..apply.provenance import Change
from ..storage.items import Answer
from ..storage.store import Scan
from .tables import touched_records

FIGURES = ("Macro average precision", "Macro F1 at the review thresholds")
SAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class FigureChange:
    """A figure with given and with corrected labels, means over seeds, and its `change` with the ends of an interval (None with
    too few records) and by seed."""

    name: str
    given: float
    corrected: float
    change: float
    low: float | None
    high: float | None
    by_seed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RetrainComparison:
    """The figures of models trained on both kinds of labels, measured on `rows` untouched test records."""

    seeds: tuple[int, ...]
    rows: int
    figures: tuple[FigureChange, ...]

    @property
    def summary(self) -> str:
        """Whether the corrected labels give better models, in a sentence."""
        first = self.figures[0]
        change = f"{first.name.lower()} by {first.change:+.3f}"
        if first.low is None or first.high is None:
            return f"Corrected labels changed {change}; there are too few records for an interval."
        if first.low > 0:
            return f"Corrected labels give better models: they changed {change}."
        if first.high < 0:
            return f"Corrected labels give worse models: they changed {change}. Check the changes again."
        return (
            f"No significant difference: corrected labels changed {change}, and the interval contains zero."
        )

    def to_json(self) -> dict[str, Any]:
        """The content of retrain.json."""
        return {**asdict(self), "summary": self.summary}


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """A run's output for N untouched test records: probabilities, labels and review limits (N, K), domains."""

    probabilities: NDArray[np.float32]
    labels: LabelMatrix
    limits: NDArray[np.float64]
    domains: tuple[str, ...]

    def figures(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """Macro average precision and macro F1 of some rows."""
        probabilities, labels = self.probabilities[rows], self.labels[rows]
        decisions = metrics.decide(probabilities, labels, self.limits[rows])
        present = np.where(decisions.positives > 0, np.nan_to_num(decisions.f1), np.nan)
        return metrics.macro_average_precision(probabilities, labels), metrics.nan_mean(present)


def retrain(
    scan: Scan,
    answers: Sequence[Answer],
    changes: Sequence[Change],
    settings: Settings,
    seeds: Sequence[int],
    folder: Path,
) -> RetrainComparison:
    """Train on both kinds of labels with each seed, on one split of the records, and measure the difference.

    A run's folder is named after its settings and labels, so a second call continues where the first one stopped and trains
    nothing twice.

    :raises AuditError: if no test record was left untouched.
    """
    given = [parse_record(s.fields, scan.taxonomy, row_number=s.row + 1) for s in scan.records()]
    corrected = relabelled(given, changes)
    data = settings.data
    manifest = make_splits(
        given, scan.taxonomy, fractions=data.fractions, seed=data.split_seed, by_time=data.by_time
    )
    untouched = set(manifest.ids["test"]) - touched_records(answers)
    if not untouched:
        raise AuditError(
            "the audit touched every test record; give the test split a larger share (data.fractions)"
        )
    splits = [_splits(scan, manifest, records) for records in (given, corrected)]
    pairs = []
    for seed in seeds:
        seeded = settings.model_copy(update={"seed": seed})
        pairs.append(
            tuple(
                _held_out(_run(seeded, split, folder, f"{name}-seed-{seed}"), untouched, scan.taxonomy)
                for name, split in zip(("given", "corrected"), splits, strict=True)
            )
        )
    return compare_runs(pairs, seeds)


def _splits(scan: Scan, manifest: SplitManifest, records: Sequence[Record]) -> SplitRecords:
    by_id = {record.id: record for record in records}
    parts = {name: [by_id[record_id] for record_id in ids] for name, ids in manifest.ids.items()}
    return SplitRecords(scan.taxonomy, parts, manifest, dict(scan.summary.files))


def _run(settings: Settings, data: SplitRecords, folder: Path, name: str) -> Path:
    """Train, unless the same run exists; one that stopped continues from its last checkpoint."""
    path = folder / f"{name}-{fingerprint(settings, data.data_hash())[:12]}"
    if (path / METRICS).is_file():
        print(f"{path}: already finished", file=sys.stderr)
        return path
    print(f"{path}: training", file=sys.stderr)
    return train_run(settings, data, path, resume=True)


def _held_out(run: Path, untouched: set[str], taxonomy: Taxonomy) -> HeldOut:
    predictions = Predictions.load(predictions_file(run, "test"))
    kept = predictions.select(np.array([record in untouched for record in predictions.ids], dtype=bool))
    decided = read_rule(run).decide(kept, taxonomy)
    return HeldOut(decided.probabilities, kept.labels, decided.limits, kept.domains)


def compare_runs(pairs: Sequence[tuple[HeldOut, ...]], seeds: Sequence[int]) -> RetrainComparison:
    """The figures of both kinds of run and their paired differences.

    :param pairs: the runs on given and on corrected labels, for each seed.
    """
    domains = pairs[0][0].domains
    everything = np.arange(len(domains))
    values = np.array([[run.figures(everything) for run in pair] for pair in pairs])
    figures = []
    for number, name in enumerate(FIGURES):
        given, corrected = values[:, :, number].mean(axis=0)
        low, high = cluster_interval(_resampled_difference(pairs, number), domains, samples=SAMPLES)
        figures.append(
            FigureChange(
                name=name,
                given=float(given),
                corrected=float(corrected),
                change=float(corrected - given),
                low=low if np.isfinite(low) else None,
                high=high if np.isfinite(high) else None,
                by_seed=tuple((values[:, 1, number] - values[:, 0, number]).tolist()),
            )
        )
    return RetrainComparison(tuple(seeds), len(domains), tuple(figures))


def _resampled_difference(
    pairs: Sequence[tuple[HeldOut, ...]], number: int
) -> Callable[[NDArray[np.int64]], float]:
    """Corrected - given on the rows of a sample, mean over seeds that are drawn too: training differs from seed to seed."""
    generator = np.random.default_rng(number)

    def difference(rows: NDArray[np.int64]) -> float:
        drawn = generator.integers(len(pairs), size=len(pairs))
        counts = np.bincount(drawn, minlength=len(pairs))
        parts = [
            count * (pair[1].figures(rows)[number] - pair[0].figures(rows)[number])
            for pair, count in zip(pairs, counts, strict=True)
            if count
        ]
        return float(sum(parts) / len(pairs))

    return difference
