"""Predictions: a model's logits for some records next to their labels, all that evaluation needs."""

import json
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...core.errors import RunError
from ...core.extras import require
from ...core.files import atomic_path
from ...core.labels import LabelMatrix

COLUMNS = ("id", "domain", "slices", "text", "logits", "labels", "known")


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Logits of N records for K policies, with labels and what describes each record.

    :param logits: (N, K) float32, pooled over windows, before calibration.
    :param labels: of 0 and 1; an unlabelled cell counts nowhere.
    :param domains: the record id where a record has no domain, so that each such record is a cluster of its own.
    :param windows: (N,) how many windows each record has; by default one each.
    :param slices: maps a name (form, country, length ...) to one value per record, "" where there is none.
    :raises ValueError: if a shape, a length or a value does not fit the others.
    """

    ids: tuple[str, ...]
    logits: NDArray[np.float32]
    labels: LabelMatrix
    domains: tuple[str, ...]
    slices: Mapping[str, tuple[str, ...]]
    texts: tuple[str, ...]
    windows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        object.__setattr__(self, "logits", np.ascontiguousarray(self.logits, dtype=np.float32))
        windows = self.windows if len(self.windows) else np.ones(len(self.ids))
        object.__setattr__(self, "windows", np.asarray(windows, dtype=np.int64))
        self._check_shapes()
        if not np.isfinite(self.logits).all():
            row = int(np.flatnonzero(~np.isfinite(self.logits).all(axis=1))[0])
            raise ValueError(f"logits of record {self.ids[row]!r} (row {row}) are not finite")
        if not np.isin(self.labels.values, (0.0, 1.0)).all():
            raise ValueError("labels must be 0 or 1; leave an unlabelled cell out by the mask")
        if len(self.windows) and self.windows.min() < 1:
            raise ValueError(
                f"record {self.ids[int(self.windows.argmin())]!r} has no window; each has at least one"
            )
        if "" in self.domains:
            row = self.domains.index("")
            raise ValueError(f"record {self.ids[row]!r} (row {row}) has an empty domain; use its id instead")

    def _check_shapes(self) -> None:
        if self.logits.ndim != 2:
            raise ValueError(f"logits must be (records, policies), not {self.logits.shape}")
        if self.labels.mask.shape != self.logits.shape:
            raise ValueError(f"labels have shape {self.labels.mask.shape}, logits {self.logits.shape}")
        columns: dict[str, Sized] = {"ids": self.ids, "domains": self.domains, "texts": self.texts}
        columns["windows"] = self.windows
        columns |= {f"slices[{name!r}]": values for name, values in self.slices.items()}
        for name, values in columns.items():
            if len(values) != len(self.logits):
                raise ValueError(f"{name} has {len(values)} entries, logits have {len(self.logits)} rows")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def policies(self) -> int:
        """Number of policies, K."""
        return int(self.logits.shape[1])

    def select(self, index: ArrayLike) -> "Predictions":
        """The records at `index`: integers in the order wanted, or a bool mask of length N."""
        rows = np.arange(len(self))[np.asarray(index, dtype=None if np.size(index) else np.int64)]

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[row] for row in rows)

        return replace(
            self,
            ids=pick(self.ids),
            logits=self.logits[rows],
            labels=self.labels[rows],
            domains=pick(self.domains),
            slices={name: pick(values) for name, values in self.slices.items()},
            texts=pick(self.texts),
            windows=self.windows[rows],
        )

    def save(self, path: Path) -> None:
        """Write one Parquet row per record, atomically; `slices` is a column of JSON objects.

        A lone surrogate, which UTF-8 cannot hold, is written as "?".

        :raises StorageError: if the disk is full or the place not writable.
        """
        pa, pq = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
        floats = pa.list_(pa.float32())
        rows = range(len(self))
        slices = [{name: self.slices[name][row] for name in self.slices} for row in rows]
        columns = {
            "id": [_storable(value) for value in self.ids],
            "domain": [_storable(value) for value in self.domains],
            "slices": [json.dumps(entry) for entry in slices],
            "text": [_storable(value) for value in self.texts],
            "logits": pa.array(list(self.logits), floats),
            "labels": pa.array(list(self.labels.values), floats),
            "known": pa.array(list(self.labels.mask), pa.list_(pa.bool_())),
            "windows": pa.array(self.windows, pa.int64()),
        }
        # A table without rows does not show K nor the slices: the metadata does.
        metadata = {"policies": str(self.policies), "slices": json.dumps(list(self.slices))}
        table = pa.table(
            {
                name: values if isinstance(values, pa.Array) else pa.array(values, pa.string())
                for name, values in columns.items()
            }
        ).replace_schema_metadata(metadata)
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what `save` wrote.

        :raises RunError: if the file is missing, damaged or not a table of predictions.
        """
        pa, pq = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise RunError(
                f"{path}: not readable as Parquet ({error}); write the predictions again"
            ) from error
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise RunError(f"{path}: columns missing: {', '.join(missing)}; write the predictions again")
        try:
            return _from_table(table)
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: {error}; write the predictions again") from error


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _matrix(column: Any, policies: int, kind: type) -> NDArray[Any]:
    rows = column.to_pylist()
    if not rows:
        return np.zeros((0, policies), dtype=kind)
    return np.asarray(rows, dtype=kind)


def _from_table(table: Any) -> Predictions:
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    policies = int(metadata["policies"])
    entries = [json.loads(entry) for entry in table["slices"].to_pylist()]
    names: list[str] = json.loads(metadata["slices"])
    return Predictions(
        ids=tuple(table["id"].to_pylist()),
        logits=_matrix(table["logits"], policies, np.float32),
        labels=LabelMatrix(
            _matrix(table["labels"], policies, np.float32), _matrix(table["known"], policies, np.bool_)
        ),
        domains=tuple(table["domain"].to_pylist()),
        slices={name: tuple(entry[name] for entry in entries) for name in names},
        texts=tuple(table["text"].to_pylist()),
        windows=_windows(table),
    )


def _windows(table: Any) -> NDArray[np.int64]:
    """Windows of each record; an older table does not say, and one each is taken."""
    if "windows" not in table.column_names:
        return np.ones(table.num_rows, dtype=np.int64)
    return np.asarray(table["windows"].to_pylist(), dtype=np.int64)
