"""Weak training records: soft, weighted targets, such as the proven answers of a language model.

They are trained on and nothing else: calibration, certificates and tests rest on labels of people. A weak record whose
domain or text is held out is left out, and so is one of an unknown policy's cells.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.display import safe_repr
from ...core.errors import RecordError
from ...core.files import sha256_file
from ...data.cleaning.text import clean
from ...data.records.readers import iter_records, rejects_file
from ...data.records.record import Record
from ...data.taxonomy import Taxonomy

FIELD = "weak"
"""The field of a record with, per policy, `target` (probability of a violation) and `weight` (0 to 1)."""


def weak_paths(names: Sequence[str]) -> list[Path]:
    """The files of `data.weak`.

    :raises RecordError: naming the one that does not exist.
    """
    for name in names:
        if not Path(name).is_file():
            raise RecordError(f"data.weak: {name} does not exist; give files that `adjudicate records` wrote")
    return [Path(name) for name in names]


def weak_hash(paths: Sequence[str]) -> str:
    """SHA-256 over the bytes of the files, in order; empty without files."""
    return hashlib.sha256("".join(map(sha256_file, weak_paths(paths))).encode()).hexdigest() if paths else ""


def weak_records(
    paths: Sequence[str], taxonomy: Taxonomy, held_out: Iterable[Record], *, rejects: Path
) -> Iterator[Record]:
    """The weak records of the files that no held-out record shares its domain or text with.

    :raises RecordError: if a file cannot be read, or a record has no usable `weak`.
    """
    held = list(held_out)
    domains = {record.domain for record in held if record.domain}
    texts = {_text_key(record) for record in held}
    with rejects_file(rejects) as keep:
        for record in iter_records([Path(path) for path in paths], taxonomy, on_fault=keep):
            soft_targets(record, taxonomy)
            if record.domain not in domains and _text_key(record) not in texts:
                yield record


def soft_targets(
    record: Record, taxonomy: Taxonomy
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Targets, mask and weights (K,) of a weak record.

    :raises RecordError: naming the record and what is wrong.
    """
    given = record.extra.get(FIELD)
    if not isinstance(given, dict) or not given:
        raise RecordError(
            f"record {safe_repr(record.id)}: `{FIELD}` must hold a target and a weight for each policy"
        )
    targets, weights = np.zeros((2, len(taxonomy)), dtype=np.float32)
    mask = np.zeros(len(taxonomy), dtype=bool)
    for policy, entry in given.items():
        column = taxonomy.index(policy)
        try:
            target, weight = float(entry["target"]), float(entry["weight"])
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(
                f"record {safe_repr(record.id)}: {FIELD}.{policy} is wrong ({error!r})"
            ) from error
        if not (0.0 <= target <= 1.0 and 0.0 <= weight <= 1.0):
            raise RecordError(f"record {safe_repr(record.id)}: {FIELD}.{policy} must lie between 0 and 1")
        targets[column], weights[column], mask[column] = target, weight, weight > 0.0
    return targets, mask, weights


def _text_key(record: Record) -> bytes:
    return hashlib.sha256(clean(record.text).text.lower().encode("utf-8", "surrogatepass")).digest()
