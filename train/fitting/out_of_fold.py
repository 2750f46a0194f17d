"""Out-of-fold predictions: each fold is predicted by a model trained on the others, which never saw its labels."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from ...core.errors import AuditError, RunError
from ...core.extras import require
from ...core.files import atomic_path
from ...core.labels import LabelMatrix
from ...data.records.fingerprint import fingerprint_records
from ...data.records.record import Record, label_matrix
from ...data.splitting.splits import make_splits, record_groups
from ...data.splitting.stratify import assign_groups
from ...data.taxonomy import Taxonomy
from ..batching.batches import collate, length_batches
from ..batching.dataset import SplitRecords
from ..batching.window_table import build_window_table, window_tokenizer
from ..calibration.platt_scaling import fit_calibration
from ..model.encoder import load_encoder, save_tokenizer
from ..model.policy_model import PolicyModel
from ..settings import Settings
from .area_under_margin import AreaUnderMargin
from .checkpoint import fingerprint
from .fit import fit_splits

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """For N records and K policies: calibrated probabilities (N, K) by a model that did not train on the record, the area
    under the margin (N, K) averaged over the models that did (NaN where none did), and the fold (N,) of each record."""

    probabilities: Floats
    margins: Floats
    folds: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Fold:
    """Results of one fold's model: logits (held-out, K) of the fold, and margins (N, K), NaN for records not trained on."""

    logits: Floats
    margins: Floats


def out_of_fold(
    records: Sequence[Record],
    taxonomy: Taxonomy,
    settings: Settings,
    folder: Path,
    *,
    folds: int = 5,
    on_progress: Callable[[str], None] = lambda line: None,
) -> OutOfFold:
    """Train `folds` models and predict each fold by the one that did not train on it.

    Records of one domain, and near-duplicate texts, are in one fold. A finished fold stays in `folder` and is read again
    as long as records, labels, settings and the number of folds are the same; an unfinished fold starts from the beginning.

    :param on_progress: called with a line for each fold that starts or is finished already.
    :raises AuditError: if there are fewer groups of records than folds, or no record has a label.
    :raises RunError: if training diverges.
    """
    labels = label_matrix(records, taxonomy)
    if not labels.positive.any():
        raise AuditError(
            f"none of the {len(records)} records has a label: there is nothing to learn from them"
        )
    numbers = assign_folds(records, labels, folds=folds, seed=settings.seed)
    key = _fingerprint(records, taxonomy, settings, folds)
    if settings.loop.threads:
        torch.set_num_threads(settings.loop.threads)
    shape = labels.values.shape
    logits, sums, times = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for fold in range(folds):
        held = numbers == fold
        path = folder / f"fold-{fold}.parquet"
        part = _read(path, key, records)
        status = "already finished" if part else f"{int((~held).sum())} records"
        on_progress(f"fold {fold + 1} of {folds}: {status}")
        if part is None:
            part = _train(
                records, taxonomy, settings, folder / f"fold-{fold}", held, seed=settings.seed + fold
            )
            if not PartialState().is_main_process:
                continue
            _write(path, key, records, held, part)
        logits[held] = part.logits
        seen = np.isfinite(part.margins)
        sums[seen] += part.margins[seen]
        times += seen
    margins = np.divide(sums, times, out=np.full(shape, np.nan), where=times > 0)
    return OutOfFold(cross_calibrated(logits, labels, numbers), margins, numbers)


def encoder_vectors(records: Sequence[Record], settings: Settings, folder: Path) -> NDArray[np.float32]:
    """Vectors (N, hidden) of length 1 from the base encoder before any training: means over a record's windows.

    The models of the folds are no alternative: each has a vector space of its own, and has seen labels.

    :param folder: a folder for temporary files; it is deleted at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(settings.model, folder / "tokenizer.json")
    tokenizer = window_tokenizer(folder / "tokenizer.json", settings.model)
    table = build_window_table(records, tokenizer, folder / "windows")
    device = PartialState().device
    model = PolicyModel(load_encoder(settings.model), settings.model, n_policies=1).to(device).eval()
    vectors = np.zeros((len(records), model.head.in_features), dtype=np.float32)
    for rows in length_batches(table, budget=2 * settings.optim.batch_tokens):
        batch = collate(table, rows).to(device)
        with torch.inference_mode():
            pooled = torch.cat([model.pooled(ids, mask).float() for ids, mask in batch.groups])
        means = torch.zeros((len(rows), pooled.shape[1]), device=device)
        means.index_add_(0, batch.record_of_window, torch.nn.functional.normalize(pooled, dim=1))
        vectors[rows] = torch.nn.functional.normalize(means, dim=1).cpu().numpy()
    shutil.rmtree(folder)
    return vectors


def assign_folds(
    records: Sequence[Record], labels: LabelMatrix, *, folds: int, seed: int
) -> NDArray[np.int64]:
    """The fold (N,) of each record, stratified over policies, compliant records and unlabelled ones."""
    groups = record_groups(records, seed=seed)
    count = int(groups.max()) + 1
    if count < folds:
        raise AuditError(
            f"{len(records)} records form {count} groups of one domain or near-equal texts, too few for {folds} folds; "
            "add records or lower --folds"
        )
    strata = np.zeros((count, labels.policies + 2), dtype=np.int64)
    kinds = np.column_stack([labels.positive, labels.compliant, ~labels.labelled])
    np.add.at(strata, groups, kinds.astype(np.int64))
    sizes = np.bincount(groups, minlength=count)
    return np.asarray(assign_groups(sizes, strata, np.full(folds, 1.0 / folds), seed=seed)[groups])


def _fingerprint(records: Sequence[Record], taxonomy: Taxonomy, settings: Settings, folds: int) -> str:
    """Identifies everything that determines the results of the folds."""
    training = fingerprint(settings, fingerprint_records(records))
    return hashlib.sha256(json.dumps([training, taxonomy.to_json(), folds]).encode()).hexdigest()


def _train(
    records: Sequence[Record],
    taxonomy: Taxonomy,
    settings: Settings,
    folder: Path,
    held: NDArray[np.bool_],
    *,
    seed: int,
) -> _Fold:
    """Train on the records that are not held out; some of them, drawn by `seed`, select the best step."""
    rest = [record for record, out in zip(records, held, strict=True) if not out]
    share = settings.data.validation / (settings.data.train + settings.data.validation)
    manifest = make_splits(rest, taxonomy, fractions={"train": 1.0 - share, "validation": share}, seed=seed)
    parts = manifest.select(rest)
    out = [record for record, kept in zip(records, held, strict=True) if kept]
    splits = {**parts, "calibration": parts["validation"], "test": out}
    margin = AreaUnderMargin((len(parts["train"]), len(taxonomy)))
    plain = settings.model_copy(update={"loop": settings.loop.model_copy(update={"trackers": ()})})
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        data = SplitRecords(taxonomy, splits, None, {})
        result = fit_splits(plain, data, folder, fingerprint="", on_batch=margin)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    margins = np.full((len(records), len(taxonomy)), np.nan)
    places = {record.id: row for row, record in enumerate(records)}
    margins[[places[record.id] for record in parts["train"]]] = margin.averages()
    if result is None:
        return _Fold(np.zeros((0, len(taxonomy))), margins)
    return _Fold(result.predictions["test"].logits.astype(np.float64), margins)


def cross_calibrated(logits: Floats, labels: LabelMatrix, folds: NDArray[np.int64]) -> Floats:
    """Probabilities (N, K); the logits of each fold are calibrated on those of the others."""
    probabilities = np.zeros(logits.shape)
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        calibration = fit_calibration(logits[~held], labels[~held])
        probabilities[held] = calibration.apply(logits[held])
    return probabilities


def _write(path: Path, key: str, records: Sequence[Record], held: NDArray[np.bool_], fold: _Fold) -> None:
    """Write one row per record: its logits if it is held out, its margins if it was trained on."""
    arrow, parquet = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
    logits: list[Any] = [None] * len(records)
    for row, values in zip(np.flatnonzero(held).tolist(), fold.logits.tolist(), strict=True):
        logits[row] = values
    # A cell that was never trained on has no margin, nor has a record that was held out.
    margins = [
        [value if np.isfinite(value) else None for value in row] if np.isfinite(row).any() else None
        for row in fold.margins.tolist()
    ]
    table = arrow.table(
        {
            "id": arrow.array([record.id for record in records], arrow.string()),
            "logits": arrow.array(logits, arrow.list_(arrow.float64())),
            "margins": arrow.array(margins, arrow.list_(arrow.float64())),
        }
    ).replace_schema_metadata({"fingerprint": key})
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)


def _read(path: Path, key: str, records: Sequence[Record]) -> _Fold | None:
    """The fold, if it exists and comes from the same records and settings."""
    arrow, parquet = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
    if not path.is_file():
        return None
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise RunError(f"{path}: is damaged ({error}); delete it to train its fold again") from error
    if (table.schema.metadata or {}).get(b"fingerprint") != key.encode():
        return None
    logits = [values for values in table["logits"].to_pylist() if values is not None]
    margins = np.full((len(records), len(logits[0]) if logits else 0), np.nan)
    for row, values in enumerate(table["margins"].to_pylist()):
        if values is not None:
            margins[row] = [np.nan if value is None else value for value in values]
    return _Fold(np.array(logits, dtype=np.float64), margins)
