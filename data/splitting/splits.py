"""Splits in which no merchant and no copied text is on two sides, balanced over the policies."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from ...core.display import safe_repr
from ...core.errors import SplitError
from ..records.fingerprint import fingerprint_records
from ..records.record import Record, label_matrix
from ..records.schema import parse_timestamp
from ..taxonomy import Taxonomy
from .near_duplicates import group_numbers, near_duplicate_groups
from .stratify import assign_groups

SPLITS = ("train", "validation", "calibration", "test")


@dataclass(frozen=True, slots=True)
class SplitManifest:
    """Which record is in which split.

    `texts` is a digest of the ids and texts that were split, `sha256` one of the whole manifest.
    """

    seed: int
    fractions: dict[str, float]
    by_time: bool
    ids: dict[str, list[str]]
    texts: str
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {**self._content(), "sha256": self.sha256}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SplitManifest":
        """Build a manifest from `to_json`'s mapping.

        :raises SplitError: if a part is missing, or the hash does not match.
        """
        try:
            manifest = _sealed(
                seed=value["seed"],
                fractions=dict(value["fractions"]),
                by_time=value["by_time"],
                ids={name: list(ids) for name, ids in value["ids"].items()},
                texts=value["texts"],
            )
            stated = value["sha256"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SplitError(f"the split manifest is damaged ({error!r}); split the records again") from error
        if stated != manifest.sha256:
            raise SplitError(
                f"the split manifest was changed: it states sha256 {safe_repr(stated)} but has {manifest.sha256}; "
                "restore it, or split the records again"
            )
        return manifest

    def select(self, records: Sequence[Record]) -> dict[str, list[Record]]:
        """Return the records of each split, in the manifest's order.

        :raises SplitError: if the records are not the ones that were split, or a text has changed.
        """
        by_id = {record.id: record for record in records}
        wanted = [record_id for ids in self.ids.values() for record_id in ids]
        missing = [record_id for record_id in wanted if record_id not in by_id]
        if missing:
            raise SplitError(
                f"{len(missing)} records of the split manifest are not in the data, {safe_repr(missing[0])} "
                "first; give the data files that were split"
            )
        if fingerprint_records([by_id[i] for i in sorted(wanted)], texts_only=True) != self.texts:
            raise SplitError("the texts are not the ones that were split; split the records again")
        return {name: [by_id[record_id] for record_id in ids] for name, ids in self.ids.items()}

    def extended(self, ids: Mapping[str, Sequence[str]], records: Sequence[Record]) -> "SplitManifest":
        """The manifest with further records in some splits.

        :param ids: ids of the further records by split.
        :param records: all records, with the further ones.
        :raises SplitError: if an id is in the manifest already, or given twice.
        """
        joined = {name: [*self.ids.get(name, ()), *ids.get(name, ())] for name in SPLITS}
        wanted = sorted(record_id for members in joined.values() for record_id in members)
        for earlier, later in pairwise(wanted):
            if earlier == later:
                raise SplitError(f"two records have the id {safe_repr(later)}; give each its own")
        by_id = {record.id: record for record in records}
        return _sealed(
            seed=self.seed,
            fractions=self.fractions,
            by_time=self.by_time,
            ids={name: members for name, members in joined.items() if members},
            texts=fingerprint_records([by_id[record_id] for record_id in wanted], texts_only=True),
        )

    def _content(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "fractions": self.fractions,
            "by_time": self.by_time,
            "ids": self.ids,
            "texts": self.texts,
        }


def make_splits(
    records: Sequence[Record],
    taxonomy: Taxonomy,
    *,
    fractions: Mapping[str, float],
    seed: int,
    by_time: bool = False,
) -> SplitManifest:
    """Split records so that one domain, and texts that are near-duplicates, stay together.

    The groups are spread by iterative stratification over the policies, the compliant records and the
    unlabelled ones. The order of the records does not matter.

    :param fractions: share of the records per split, of the names in `SPLITS`; they sum to 1.
    :param by_time: give the latest groups to test, so that no record outside it is later than the
        latest one of any group inside.
    :raises SplitError: if the fractions are not usable, ids repeat, there are fewer groups than splits, a
        split stays empty, or `by_time` finds a record without `collected_at`.
    """
    _check_fractions(fractions, by_time=by_time)
    records = _in_order(records)
    groups = record_groups(records, seed=seed)
    count = int(groups.max(initial=-1)) + 1
    if count < len(fractions):
        raise SplitError(
            f"{len(records)} records make {count} groups of one domain or near-equal texts, too few for "
            f"{len(fractions)} splits; add merchants or ask for fewer splits"
        )
    names = _split_names(records, taxonomy, groups, fractions=fractions, seed=seed, by_time=by_time)
    members: dict[str, list[Record]] = {name: [] for name in fractions}
    for record, group in zip(records, groups, strict=True):
        members[names[group]].append(record)
    ids = {name: [record.id for record in split] for name, split in members.items()}
    _check_filled(ids, fractions, groups=count)
    texts = fingerprint_records(records, texts_only=True)
    return _sealed(seed=seed, fractions=dict(fractions), by_time=by_time, ids=ids, texts=texts)


def record_groups(records: Sequence[Record], *, threshold: float = 0.7, seed: int = 0) -> np.ndarray:
    """Group records that share a domain or a near-duplicate text, directly or through others.

    :return: group numbers, int64 (N,), numbered from 0 in order of appearance.
    """
    sets = DisjointSet(range(len(records)))
    firsts: dict[tuple[str, object], int] = {}
    duplicates = near_duplicate_groups([record.text for record in records], threshold=threshold, seed=seed)
    for position, record in enumerate(records):
        sets.merge(firsts.setdefault(("text", int(duplicates[position])), position), position)
        if domain := _plain_domain(record.domain):
            sets.merge(firsts.setdefault(("domain", domain), position), position)
    return group_numbers(sets)


def _in_order(records: Sequence[Record]) -> list[Record]:
    """Sort by id, so that the order of the files does not matter."""
    ordered = sorted(records, key=lambda record: record.id)
    for earlier, later in pairwise(ordered):
        if earlier.id == later.id:
            raise SplitError(f"two records have the id {safe_repr(later.id)}; give each its own")
    return ordered


def _split_names(
    records: Sequence[Record],
    taxonomy: Taxonomy,
    groups: np.ndarray,
    *,
    fractions: Mapping[str, float],
    seed: int,
    by_time: bool,
) -> list[str]:
    """Return the split of each group."""
    sizes, strata = _group_counts(records, taxonomy, groups)
    names = np.full(len(sizes), "test", dtype=object)
    rest = np.ones(len(sizes), dtype=bool)
    shares = dict(fractions)
    if by_time:
        rest = ~_latest_groups(records, groups, fraction=shares.pop("test"), spare=len(shares))
    chosen = assign_groups(sizes[rest], strata[rest], np.array(list(shares.values())), seed=seed)
    names[rest] = np.array(list(shares), dtype=object)[chosen]
    return [str(name) for name in names]


def _plain_domain(domain: str | None) -> str:
    return (domain or "").strip().casefold().rstrip(".").removeprefix("www.")


def _check_fractions(fractions: Mapping[str, float], *, by_time: bool) -> None:
    for name, fraction in fractions.items():
        if name not in SPLITS:
            raise SplitError(f"{safe_repr(name)} is not a split; name them {', '.join(SPLITS)}")
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0.0 < fraction < 1.0:
            raise SplitError(
                f"{name}: {safe_repr(fraction)} must lie between 0 and 1; leave out an unwanted split"
            )
    if len(fractions) < 2:
        raise SplitError("give fractions for at least two splits")
    total = math.fsum(fractions.values())
    if abs(total - 1.0) > 1e-6:
        raise SplitError(f"the fractions {dict(fractions)} sum to {total:g}; make them sum to 1")
    if by_time and "test" not in fractions:
        raise SplitError("a split by time gives the latest records to test; give `test` a fraction")


def _check_filled(ids: Mapping[str, Sequence[str]], fractions: Mapping[str, float], *, groups: int) -> None:
    for name, members in ids.items():
        if not members:
            raise SplitError(
                f"the split {name!r} is empty: {groups} groups of one domain or near-equal texts are "
                f"not enough for a fraction of {fractions[name]:g}; raise it, or add merchants"
            )


def _latest_groups(
    records: Sequence[Record], groups: np.ndarray, *, fraction: float, spare: int
) -> np.ndarray:
    """Return which groups go to test, bool (G,): the latest, until the fraction of records is reached.

    At least one goes, and at least `spare` stay.
    """
    undated = [record.id for record in records if record.collected_at is None]
    if undated:
        listed = ", ".join(safe_repr(record_id) for record_id in undated[:5])
        raise SplitError(
            f"{len(undated)} records have no `collected_at` ({listed}{', ...' * (len(undated) > 5)}); date "
            "them, or split without by_time"
        )
    count = int(groups.max()) + 1
    latest = [float("-inf")] * count
    for record, group in zip(records, groups, strict=True):
        latest[group] = max(latest[group], parse_timestamp(str(record.collected_at)).timestamp())
    sizes = np.bincount(groups, minlength=count)
    order = np.argsort(-np.array(latest), kind="stable")
    taken = np.cumsum(sizes[order])
    nearest = int(np.argmin(np.abs(taken - fraction * len(records)))) + 1
    test = np.zeros(count, dtype=bool)
    test[order[: min(nearest, count - spare)]] = True
    return test


def _group_counts(
    records: Sequence[Record], taxonomy: Taxonomy, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the records per group, int64 (G,), and those per stratum, int64 (G, K + 2).

    The strata are the policies, the compliant records, and the unlabelled ones.
    """
    labels = label_matrix(records, taxonomy)
    columns = np.column_stack([labels.values, labels.compliant, ~labels.labelled]).astype(np.int64)
    count = int(groups.max(initial=-1)) + 1
    strata = np.zeros((count, columns.shape[1]), dtype=np.int64)
    np.add.at(strata, groups, columns)
    return np.bincount(groups, minlength=count), strata


def _sealed(
    *, seed: int, fractions: dict[str, float], by_time: bool, ids: dict[str, list[str]], texts: str
) -> SplitManifest:
    unsealed = SplitManifest(seed, fractions, by_time, ids, texts, sha256="")
    canonical = json.dumps(unsealed._content(), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return SplitManifest(seed, fractions, by_time, ids, texts, hashlib.sha256(canonical.encode()).hexdigest())
