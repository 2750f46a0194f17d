"""Why rows were rejected is said where somebody would otherwise see only that too few are left."""

import json

import pytest

from merchantguard.core.errors import RecordError
from merchantguard.data.records.readers import RowFault
from merchantguard.data.records.rejections import Rejections
from merchantguard.train.batching.dataset import load_split_records
from merchantguard.train.settings import DataSettings


def test_the_three_commonest_reasons_with_an_example_each():
    reasons = [f"id: 'x{n}' was already the id" for n in range(5)] + ["not valid UTF-8"] * 3
    reasons += ["2 cells, but the header has 3", "4 cells, but the header has 3", "a NUL byte"]
    rejections = Rejections(RowFault("a.csv", row, reason) for row, reason in enumerate(reasons, start=2))
    assert rejections.are_most(10)
    assert not rejections.are_most(11)
    assert rejections.explain(9).splitlines() == [
        "11 of 20 rows were rejected; the commonest reasons:",
        "  5 rows, such as a.csv, row 2: id: 'x0' was already the id",
        "  3 rows, such as a.csv, row 7: not valid UTF-8",
        "  2 rows, such as a.csv, row 10: 2 cells, but the header has 3",
    ]


def test_training_on_rows_that_are_all_rejected_says_why(tmp_path):
    taxonomy = tmp_path / "tax.yaml"
    taxonomy.write_text(
        "version: 1\npolicies:\n  - {id: alcohol, title: Alcohol, severity: restricted, covers: beer}\n"
    )
    data = tmp_path / "records.jsonl"
    rows = ({"id": str(n), "text": f"Beer {n}", "labels": [], "unknown": ["crypto"]} for n in range(40))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = DataSettings(taxonomy=str(taxonomy), records=(str(data),))
    with pytest.raises(
        RecordError, match=r"40 of 40 rows were rejected(.|\n)*40 rows, .*row 1: unknown: .*crypto"
    ):
        load_split_records(settings, strict=False, rejects=None)
