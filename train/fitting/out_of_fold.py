"""Opinions on labels by models that never saw them: each fold is predicted by a model trained on the others."""

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
from ...data.records.fingerprint import fingerprint_records
from ...data.records.record import Record, label_matrix
from ...data.splitting.splits import make_splits, record_groups
from ...data.splitting.stratify import assign_groups
from ...data.taxonomy import Taxonomy
from ..batching.batches import collate, length_batches
from ..batching.dataset import SplitRecords, window_tokenizer
from ..batching.window_table import build_window_table
from ..calibration.platt_scaling import fit_calibration
from ..model.encoder import load_encoder, save_tokenizer
from ..model.policy_model import PolicyModel
from ..pipeline import fingerprint, fit_splits
from ..settings import Settings
from .area_under_margin import MarginAverage

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Of N records and K policies: calibrated probabilities (N, K) by a model that did not see the record, area under the
    margin (N, K) averaged over the models that did (NaN where none), and the fold (N,) of each record."""

    probabilities: Floats
    margins: Floats
    folds: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Fold:
    """What one fold's model says: logits (held-out, K) of the fold, margins (N, K) of all records, NaN where not trained on."""

    logits: Floats
    margins: Floats


def out_of_fold(
    records: Sequence[Record],
    taxonomy: Taxonomy,
    settings: Settings,
    folder: Path,
    *,
    folds: int = 5,
    tell: Callable[[str], None] = lambda line: None,
) -> OutOfFold:
    """Train `folds` models and predict each fold by the one that did not train on it.

    One domain, and near-duplicate texts, lie in one fold. A finished fold stays in `folder` and is read back as long as
    records, labels, settings and the number of folds are the same; one that stopped half-way begins anew.

    :param tell: is told which fold begins and which is there already.
    :raises AuditError: if there are fewer groups of records than folds, or no record has a label.
    :raises RunError: if training diverges.
    """
    matrix = label_matrix(records, taxonomy)
    labels, known = matrix.values, matrix.mask
    if not labels.any():
        raise AuditError(f"none of the {len(records)} records carries a label: nothing can be learnt of them")
    numbers = _assign(records, labels, known, folds=folds, seed=settings.seed)
    mark = _mark(records, taxonomy, settings, folds)
    if settings.loop.threads:
        torch.set_num_threads(settings.loop.threads)
    logits, sums, times = np.zeros(labels.shape), np.zeros(labels.shape), np.zeros(labels.shape)
    for fold in range(folds):
        held = numbers == fold
        path = folder / f"fold-{fold}.parquet"
        part = _read(path, mark, records, held)
        tell(
            f"fold {fold + 1} of {folds}" + (": already there" if part else f": {int((~held).sum())} records")
        )
        if part is None:
            part = _train(
                records, taxonomy, settings, folder / f"fold-{fold}", held, seed=settings.seed + fold
            )
            if not PartialState().is_main_process:
                continue
            _write(path, mark, records, held, part)
        logits[held] = part.logits
        seen = np.isfinite(part.margins)
        sums[seen] += part.margins[seen]
        times += seen
    margins = np.divide(sums, times, out=np.full(sums.shape, np.nan), where=times > 0)
    return OutOfFold(_calibrated(logits, labels, known, numbers), margins, numbers)


def encoder_vectors(records: Sequence[Record], settings: Settings, folder: Path) -> NDArray[np.float32]:
    """Vectors (N, hidden) of length 1 by the base encoder before any training: means over a record's windows.

    The models of the folds would each give vectors of a space of its own, and have seen the labels.

    :param folder: a folder that may be written; windows are kept there for a while.
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


def _assign(
    records: Sequence[Record], labels: NDArray[Any], known: NDArray[Any], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """The fold (N,) of each record, stratified over policies, compliant records and unlabelled ones."""
    groups = record_groups(records, seed=seed)
    count = int(groups.max()) + 1
    if count < folds:
        raise AuditError(
            f"{len(records)} records make {count} groups of one domain or near-equal texts, too few for {folds} folds; "
            "give more records or a lower --folds"
        )
    some = labels.any(axis=1)
    strata = np.zeros((count, labels.shape[1] + 2), dtype=np.int64)
    np.add.at(
        strata,
        groups,
        np.column_stack([labels, ~some & known.any(axis=1), ~known.any(axis=1)]).astype(np.int64),
    )
    sizes = np.bincount(groups, minlength=count)
    return np.asarray(assign_groups(sizes, strata, np.full(folds, 1.0 / folds), seed=seed)[groups])


def _mark(records: Sequence[Record], taxonomy: Taxonomy, settings: Settings, folds: int) -> str:
    """Identifies all that decides what the folds come to."""
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
    """Train on the records that are not held; a part of them, drawn by `seed`, chooses the best step."""
    rest = [record for record, out in zip(records, held, strict=True) if not out]
    share = settings.data.validation / (settings.data.train + settings.data.validation)
    manifest = make_splits(rest, taxonomy, fractions={"train": 1.0 - share, "validation": share}, seed=seed)
    parts = manifest.select(rest)
    out = [record for record, kept in zip(records, held, strict=True) if kept]
    splits = {**parts, "calibration": parts["validation"], "test": out}
    watch = MarginAverage(label_matrix(parts["train"], taxonomy).positive)
    plain = settings.model_copy(update={"loop": settings.loop.model_copy(update={"trackers": ()})})
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        trained = fit_splits(
            plain, SplitRecords(taxonomy, splits, None, {}), folder, mark="", resume=False, watch=watch
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    margins = np.full((len(records), len(taxonomy)), np.nan)
    places = {record.id: row for row, record in enumerate(records)}
    margins[[places[record.id] for record in parts["train"]]] = watch.averages()
    if trained is None:
        return _Fold(np.zeros((0, len(taxonomy))), margins)
    return _Fold(trained.predictions["test"].logits.astype(np.float64), margins)


def _calibrated(
    logits: Floats, labels: NDArray[Any], known: NDArray[np.bool_], folds: NDArray[np.int64]
) -> Floats:
    """Probabilities (N, K), each fold's logits calibrated on those of the others."""
    probabilities = np.zeros(logits.shape)
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        calibration = fit_calibration(logits[~held], labels[~held], known[~held])
        probabilities[held] = calibration.apply(logits[held])
    return probabilities


def _write(path: Path, mark: str, records: Sequence[Record], held: NDArray[np.bool_], fold: _Fold) -> None:
    """One row a record: logits where it was held out, margins where it was trained on."""
    arrow, parquet = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
    logits: list[Any] = [None] * len(records)
    for row, values in zip(np.flatnonzero(held).tolist(), fold.logits.tolist(), strict=True):
        logits[row] = values
    margins = [values if np.isfinite(values).all() else None for values in fold.margins]
    table = arrow.table(
        {
            "id": arrow.array([record.id for record in records], arrow.string()),
            "logits": arrow.array(logits, arrow.list_(arrow.float64())),
            "margins": arrow.array(margins, arrow.list_(arrow.float64())),
        }
    ).replace_schema_metadata({"fingerprint": mark})
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)


def _read(path: Path, mark: str, records: Sequence[Record], held: NDArray[np.bool_]) -> _Fold | None:
    """The fold, if it is there and was made of the same records and settings."""
    arrow, parquet = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
    if not path.is_file():
        return None
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise RunError(f"{path}: is damaged ({error}); delete it, and its fold is trained again") from error
    if (table.schema.metadata or {}).get(b"fingerprint") != mark.encode():
        return None
    logits = [values for values in table["logits"].to_pylist() if values is not None]
    margins = np.full((len(records), len(logits[0]) if logits else 0), np.nan)
    for row, values in enumerate(table["margins"].to_pylist()):
        if values is not None:
            margins[row] = values
    return _Fold(np.array(logits, dtype=np.float64), margins)
