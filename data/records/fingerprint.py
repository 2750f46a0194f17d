"""One hash of records: what identifies the data that a split, a window table, a fold or a run was made from."""

import hashlib
import json
from collections.abc import Iterable

from .record import Record

_TEXT = ("id", "text")
_ALL = (*_TEXT, "domain", "labels", "unknown", "evidence")


def fingerprint_records(records: Iterable[Record], *, texts_only: bool = False) -> str:
    """SHA-256, in hexadecimal, over all that training takes from the records, in their order.

    :param texts_only: over ids and texts, so that records with corrected labels keep their fingerprint.
    """
    fields = _TEXT if texts_only else _ALL
    digest = hashlib.sha256()
    for record in records:
        row = [getattr(record, field) for field in fields]
        if record.hidden_from is not None:  # the same characters are read otherwise
            row.append({"hidden_from": record.hidden_from})
        digest.update(json.dumps(row).encode("ascii") + b"\n")
    return digest.hexdigest()
