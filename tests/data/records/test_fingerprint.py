from dataclasses import replace

import pytest

from merchantguard.data.records.fingerprint import fingerprint_records
from merchantguard.data.records.record import record_from

RECORD = record_from(
    {"id": "a", "text": "tea \ud83d shop", "labels": ["tea"], "evidence": {"tea": ["shop"]}}, None
)
OTHER = record_from({"id": "b", "text": "salt", "labels": []}, None)


@pytest.mark.parametrize(
    ("change", "of_texts"),
    [
        ({"id": "c"}, True),
        ({"text": "coffee"}, True),
        ({"domain": "a.example"}, False),
        ({"labels": ()}, False),
        ({"unknown": ("salt",)}, False),
        ({"evidence": {"tea": ("tea",)}}, False),
    ],
)
def test_what_changes_a_fingerprint(change: dict[str, object], of_texts: bool) -> None:
    changed = replace(RECORD, **change)
    assert fingerprint_records([changed]) != fingerprint_records([RECORD])
    texts = [fingerprint_records([record], texts_only=True) for record in (RECORD, changed)]
    assert (texts[0] != texts[1]) == of_texts


def test_the_order_counts_and_equal_records_are_equal() -> None:
    assert fingerprint_records([RECORD, OTHER]) == fingerprint_records(iter([RECORD, OTHER]))
    assert fingerprint_records([RECORD, OTHER]) != fingerprint_records([OTHER, RECORD])
    assert len(fingerprint_records([])) == 64
