"""The label errors to find: real ones with known truth, and artificial ones in the shipped corpus."""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import label_matrix
from merchantguard.data.shipped import corpus_paths
from merchantguard.data.splitting.splits import record_groups
from merchantguard.data.taxonomy import load_taxonomy

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Case:
    """N texts with `given` and `truth` labels (N, K); `groups` of rows that must share a fold.

    `verified` (N,): rows whose truth is known; all figures are for these. `single`: one class per row, each a policy.
    `annotators`: who labelled each row.
    """

    name: str
    texts: tuple[str, ...]
    classes: tuple[str, ...]
    given: Bools
    truth: Bools
    verified: Bools
    groups: NDArray[np.int64]
    single: bool
    annotators: tuple[str, ...] | None = None

    @property
    def wrong(self) -> Bools:
        """Cells (N, K) whose given label is wrong; none in a row that is not verified."""
        return (self.given != self.truth) & self.verified[:, None]


def load_single(path: Path, name: str, *, given: str = "given_label") -> Case:
    """A file of `given_label` and `true_label`, one class per row; the truth of a row that is not verified is null.

    :param given: the field of the given label.
    """
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    classes = tuple(sorted({row[given] for row in rows} | {r["true_label"] for r in rows} - {None}))
    numbers: dict[str, int] = {}
    return Case(
        name=name,
        texts=tuple(row["text"] for row in rows),
        classes=classes,
        given=_one_hot([row[given] for row in rows], classes),
        truth=_one_hot([row["true_label"] for row in rows], classes),
        verified=np.array([row["true_label"] is not None for row in rows]),
        groups=np.array(
            [numbers.setdefault(row.get("group", row["id"]), len(numbers)) for row in rows], dtype=np.int64
        ),
        single=True,
    )


def _one_hot(labels: Sequence[str | None], classes: Sequence[str]) -> Bools:
    return np.array([[label == name for name in classes] for label in labels], dtype=bool)


def load_corpus() -> Case:
    """The shipped corpus; its labels are taken as the truth."""
    taxonomy = load_taxonomy()
    records = read_records(corpus_paths(), taxonomy, strict=True).records
    labels = label_matrix(records, taxonomy).positive
    return Case(
        name="corpus",
        texts=tuple(record.text for record in records),
        classes=taxonomy.ids,
        given=labels,
        truth=labels,
        verified=np.ones(len(records), dtype=bool),
        groups=record_groups(records, seed=0),
        single=False,
    )


def confusable(truth: Bools, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """The partner (K,) of each policy: the one whose positives lie nearest to its own, by mean vectors (N, D)."""
    centres = np.stack([vectors[column].mean(axis=0) for column in truth.T])
    centres = centres - vectors.mean(axis=0)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    likeness = centres @ centres.T
    np.fill_diagonal(likeness, -np.inf)
    partners: NDArray[np.int64] = likeness.argmax(axis=1)
    return partners


MakeError = Callable[[Bools, np.random.Generator, NDArray[np.int64]], None]
"""Makes one error in a row of labels (K,), in place."""


def _uniform(row: Bools, draw: np.random.Generator, partners: NDArray[np.int64]) -> None:
    """A label is replaced by any other; a compliant record gets any label."""
    free = np.flatnonzero(~row)
    if row.any():
        row[draw.choice(np.flatnonzero(row))] = False
    row[draw.choice(free)] = True


def _pair(row: Bools, draw: np.random.Generator, partners: NDArray[np.int64]) -> None:
    """A label is replaced by its partner, or removed if the partner is already there."""
    old = draw.choice(np.flatnonzero(row))
    row[old] = False
    row[partners[old]] = True


def _missing(row: Bools, draw: np.random.Generator, partners: NDArray[np.int64]) -> None:
    """A label is removed."""
    row[draw.choice(np.flatnonzero(row))] = False


def _mixed(row: Bools, draw: np.random.Generator, partners: NDArray[np.int64]) -> None:
    """One of the three; on a compliant record only the first is possible."""
    kinds = (_uniform, _pair, _missing) if row.any() else (_uniform,)
    kinds[draw.integers(len(kinds))](row, draw, partners)


NOISES: dict[str, MakeError] = {"uniform": _uniform, "pair": _pair, "missing": _missing, "mixed": _mixed}


def plant(case: Case, noise: str, rate: float, partners: NDArray[np.int64], *, seed: int) -> Case:
    """NoiseEstimate in a share `rate` of the rows that can have one: for pairs and missing labels, rows with a label."""
    draw = np.random.default_rng([seed, sorted(NOISES).index(noise), round(1000 * rate)])
    able = (
        np.flatnonzero(case.truth.any(axis=1)) if noise in ("pair", "missing") else np.arange(len(case.truth))
    )
    given = case.truth.copy()
    for row in draw.choice(able, size=round(rate * len(able)), replace=False):
        NOISES[noise](given[row], draw, partners)
    return replace(case, given=given)


def with_annotators(
    case: Case, partners: NDArray[np.int64], *, seed: int, count: int = 12, bad: int = 3
) -> Case:
    """Labels by `count` annotators, one per record: `bad` of them make errors in 35 % of their records, the others in 3 %.

    In all, about 11 % of the rows have an error.
    """
    draw = np.random.default_rng([seed, 77])
    who = draw.integers(count, size=len(case.truth))
    given = case.truth.copy()
    for row in range(len(given)):
        if draw.random() < (0.35 if who[row] < bad else 0.03):
            _mixed(given[row], draw, partners)
    return replace(case, given=given, annotators=tuple(f"annotator-{number:02d}" for number in who))
