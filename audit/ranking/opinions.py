"""Probabilities that came from another model, in a file of a row per record and a column per policy."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.display import shown
from ...core.errors import AuditError
from ...data.records.record import Record
from ...data.records.rows import open_rows
from ...data.taxonomy import Taxonomy


def read_probabilities(path: Path, records: Sequence[Record], taxonomy: Taxonomy) -> NDArray[np.float64]:
    """Probabilities (N, K) of the records, in their order and that of the taxonomy.

    The file is JSONL, CSV or Parquet with `id` and a column per policy; rows of other ids are left out. They must come from a
    model that did not see the record in training: nothing here can tell.

    :raises AuditError: naming the row and what is wrong: an id that comes twice, a policy that is missing, a value that is not
        in [0, 1]; or which records have no row.
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
            raise AuditError(f"{where}: has no `id`; give each record's")
        if record_id in first:
            raise AuditError(f"{where}: id {shown(record_id)} came in row {first[record_id]} already")
        first[record_id] = row.number
        if record_id in places:
            values[places[record_id]] = [_value(fields, policy, where) for policy in taxonomy.ids]
    missing = [record.id for record in records if record.id not in first]
    if missing:
        raise AuditError(
            f"{path}: has no row for {len(missing)} of {len(records)} records, {shown(missing[0])} first; "
            "give probabilities of all of them"
        )
    return values


def _value(fields: Any, policy: str, where: str) -> float:
    if fields.get(policy) is None or fields[policy] == "":
        raise AuditError(f"{where}: has no value for the policy {shown(policy)}; each policy is a column")
    given = fields[policy]
    try:
        value = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise AuditError(f"{where}: {policy} is {shown(given)}; a probability lies between 0 and 1")
    return value
