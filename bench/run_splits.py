"""Records of a run's splits, as its splits.json names them: what a bench may measure on."""

from collections.abc import Sequence
from pathlib import Path

from merchantguard.core.files import read_json
from merchantguard.data.records.record import Record
from merchantguard.data.splitting.splits import SplitManifest


def of_splits(
    records: Sequence[Record], splits: Path | None, parts: Sequence[str] = ("test",)
) -> list[Record]:
    """The records that a splits.json puts in one of `parts`; all of them without such a file.

    :raises SplitError: if the file is no split manifest.
    """
    if splits is None:
        return list(records)
    ids = SplitManifest.from_json(read_json(splits)).ids
    wanted = {record_id for part in parts for record_id in ids[part]}
    return [record for record in records if record.id in wanted]
