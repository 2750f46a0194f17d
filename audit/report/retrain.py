"""What the audit is worth: models trained on given and on corrected labels, compared on records it did not touch."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AuditError
from ...core.files import read_json
from ...data.records.record import Record, parse_record
from ...data.splitting.splits import SplitManifest, make_splits
from ...train import run_files
from ...train.batching.dataset import SplitRecords
from ...train.calibration.platt_scaling import Calibration
from ...train.calibration.thresholds import thresholds_from_json
from ...train.evaluation import metrics
from ...train.evaluation.predictions import Predictions
from ...train.pipeline import fingerprint, train_run
from ...train.settings import Settings
from ..apply.edits import relabelled
from ..apply.provenance import Change
from ..storage.items import Answer
from ..storage.store import Scan
from .tables import touched_records

FIGURES = ("Macro average precision", "Macro F1 at the review thresholds")
SAMPLES = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A run's answers on N untouched test records: probabilities, labels, known and review limits (N, K), domains."""

    probabilities: NDArray[np.float32]
    labels: NDArray[np.float32]
    known: NDArray[np.bool_]
    limits: NDArray[np.float64]
    domains: tuple[str, ...]

    def figures(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """Macro average precision and macro F1 of some rows."""
        cells = self.probabilities[rows], self.labels[rows], self.known[rows]
        over = self.probabilities[rows].astype(np.float32) >= self.limits[rows].astype(np.float32)
        positive = (cells[1] > 0) & cells[2]
        flagged = over & cells[2]
        found = metrics.Decisions((flagged & positive).sum(axis=0), flagged.sum(axis=0), positive.sum(axis=0))
        present = np.where(found.positives > 0, np.nan_to_num(found.f1), np.nan)
        return metrics.macro_average_precision(*cells), metrics.nan_mean(present)


def retrain(
    scan: Scan,
    answers: Sequence[Answer],
    changes: Sequence[Change],
    settings: Settings,
    seeds: Sequence[int],
    folder: Path,
) -> dict[str, Any]:
    """Train both ways with each seed, on one split of the records, and measure the difference.

    A run's folder is named after its settings and labels, so a second call goes on where the first one stopped, and trains
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
                _held(_run(seeded, split, folder, f"{name}-seed-{seed}"), untouched)
                for name, split in zip(("given", "corrected"), splits, strict=True)
            )
        )
    return _comparison(pairs, seeds)


def _splits(scan: Scan, manifest: SplitManifest, records: Sequence[Record]) -> SplitRecords:
    by_id = {record.id: record for record in records}
    parts = {name: [by_id[record_id] for record_id in ids] for name, ids in manifest.ids.items()}
    return SplitRecords(scan.taxonomy, parts, manifest, dict(scan.about.get("files", {})))


def _run(settings: Settings, data: SplitRecords, folder: Path, name: str) -> Path:
    """Train, unless the same run is there already; one that stopped goes on from its last checkpoint."""
    path = folder / f"{name}-{fingerprint(settings, data.data_hash())[:12]}"
    if (path / run_files.METRICS).is_file():
        print(f"{path}: is finished already", file=sys.stderr)
        return path
    print(f"{path}: training", file=sys.stderr)
    return train_run(settings, data, path, resume=True)


def _held(run: Path, untouched: set[str]) -> Held:
    predictions = Predictions.load(run / run_files.PREDICTIONS / "test.parquet")
    kept = predictions.select(np.array([record in untouched for record in predictions.ids], dtype=bool))
    probabilities = Calibration.from_json(read_json(run / run_files.CALIBRATION)).apply(kept.logits)
    thresholds, some = thresholds_from_json(read_json(run / run_files.THRESHOLDS))
    limits = metrics.review_limits(probabilities, [each.review for each in thresholds], some.threshold)
    return Held(probabilities, kept.labels, kept.known, limits, kept.domains)


def _comparison(pairs: Sequence[tuple[Held, ...]], seeds: Sequence[int]) -> dict[str, Any]:
    """The figures of both kinds of run, means over the seeds, and their paired differences."""
    domains = pairs[0][0].domains
    everything = np.arange(len(domains))
    values = np.array([[run.figures(everything) for run in pair] for pair in pairs])
    figures = []
    for number, name in enumerate(FIGURES):
        given, corrected = values[:, :, number].mean(axis=0)
        interval = metrics.cluster_bootstrap(
            _drawn_difference(pairs, number, everything), domains, samples=SAMPLES
        )
        figures.append(
            {
                "name": name,
                "given": float(given),
                "corrected": float(corrected),
                "change": float(corrected - given),
                "low": interval.low if np.isfinite(interval.low) else None,
                "high": interval.high if np.isfinite(interval.high) else None,
                "by_seed": (values[:, 1, number] - values[:, 0, number]).tolist(),
            }
        )
    return {
        "seeds": list(seeds),
        "rows": len(domains),
        "figures": figures,
        "summary": _summary(figures),
    }


def _drawn_difference(
    pairs: Sequence[tuple[Held, ...]], number: int, everything: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], float]:
    """Corrected - given on drawn rows, mean over seeds that are drawn too: training differs from seed to seed."""
    generator = np.random.default_rng(number)

    def difference(rows: NDArray[np.int64]) -> float:
        whole = rows.shape == everything.shape and bool((rows == everything).all())
        drawn = np.arange(len(pairs)) if whole else generator.integers(len(pairs), size=len(pairs))
        counts = np.bincount(drawn, minlength=len(pairs))
        parts = [
            count * (pair[1].figures(rows)[number] - pair[0].figures(rows)[number])
            for pair, count in zip(pairs, counts, strict=True)
            if count
        ]
        return float(sum(parts) / len(pairs))

    return difference


def _summary(figures: Sequence[Mapping[str, Any]]) -> str:
    """Whether the corrected labels made better models, in a sentence."""
    first = figures[0]
    change = f"{first['name'].lower()} by {first['change']:+.3f}"
    if first["low"] is None:
        return f"Corrected labels moved {change}; too few records for an interval."
    if first["low"] > 0:
        return f"Corrected labels made better models: they raised {change}."
    if first["high"] < 0:
        return f"Corrected labels made worse models: they moved {change}. Look at the changes again."
    return f"No difference is proven: corrected labels moved {change}, and the interval holds zero."
