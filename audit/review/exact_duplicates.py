"""Records that one answer decides together.

Near-duplicates may differ in the one sentence that matters ("nicotine free"), so an answer applies only to records of the
same near-duplicate group with exactly the same words, ignoring case, width, punctuation, invisible characters and white space.
The reviewer sees how many there are, and the journal notes which.
"""

from collections import OrderedDict

from ...data.records.record import record_from
from ...data.splitting.near_duplicates import words
from ..storage.store import Scan, StoredRecord

_GROUPS_KEPT = 256


class ExactDuplicates:
    """Finds a record's exact duplicates; remembers the groups asked for last."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._groups: OrderedDict[int, dict[str, list[str]]] = OrderedDict()

    def of(self, record: StoredRecord) -> list[str]:
        """Ids of the other records with the same words, in the order of the data."""
        group = self._groups.get(record.duplicates)
        if group is None:
            group = self._groups[record.duplicates] = self._read(record.duplicates)
            if len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
        return [other for other in group.get(record.id, ()) if other != record.id]

    def _read(self, number: int) -> dict[str, list[str]]:
        """For each id of the group the ids with the same words; empty for a record that is alone."""
        ids = self._scan.group(number)
        if len(ids) < 2:
            return {}
        same: dict[str, list[str]] = {}
        for record_id in ids:
            text = record_from(self._scan.record(record_id).fields, None).text
            same.setdefault(" ".join(words(text)), []).append(record_id)
        return {record_id: group for group in same.values() for record_id in group}
