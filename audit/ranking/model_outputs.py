"""What models say about the scanned records, and reading it from a file that another model wrote."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.display import safe_repr
from ...core.errors import AuditError
from ...data.records.record import Record
from ...data.records.rows import open_rows
from ...data.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutputs:
    """Outputs of models for N records: out-of-fold probabilities (N, K) and, where available, the area under the margin (N, K)
    and an encoder's vectors (N, H)."""

    probabilities: NDArray[np.float64]
    margins: NDArray[np.float64] | None = None
    vectors: NDArray[np.float32] | None = None


def read_probabilities(path: Path, records: Sequence[Record], taxonomy: Taxonomy) -> NDArray[np.float64]:
    """Probabilities (N, K) of the records, in their order and that of the taxonomy.

    The file is JSONL, CSV or Parquet with `id` and one column per policy; rows with other ids are ignored. The probabilities
    must come from a model that did not see the record in training; this cannot be checked here.

    :raises AuditError: naming the row and the fault (a repeated id, a missing policy, a value outside [0, 1]), or the records
        without a row.
    :raises RecordError: if the file cannot be read.
    """
    places = {record.id: row for row, record in enumerate(records)}
    values = np.full((len(records), len(taxonomy)), np.nan)
    first: dict[str, int] = {}
    for row in open_rows(path, body=False):
        where = f"{path}, row {row.number}"
        if row.fields is None:
            raise AuditError(f"{where}: {row.reason}")
        fields = row.fields
        record_id = str(fields.get("id") if fields.get("id") is not None else "")
        if not record_id:
            raise AuditError(f"{where}: has no `id`; each row needs the id of its record")
        if record_id in first:
            raise AuditError(f"{where}: id {safe_repr(record_id)} is already in row {first[record_id]}")
        first[record_id] = row.number
        if record_id in places:
            values[places[record_id]] = [_value(fields, policy, where) for policy in taxonomy.ids]
    missing = [record.id for record in records if record.id not in first]
    if missing:
        raise AuditError(
            f"{path}: has no row for {len(missing)} of {len(records)} records, {safe_repr(missing[0])} first; "
            "every record needs one"
        )
    return values


def _value(fields: Any, policy: str, where: str) -> float:
    if fields.get(policy) is None or fields[policy] == "":
        raise AuditError(
            f"{where}: has no value for the policy {safe_repr(policy)}; each policy needs a column"
        )
    given = fields[policy]
    try:
        value = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise AuditError(f"{where}: {policy} is {safe_repr(given)}; a probability is between 0 and 1")
    return value
