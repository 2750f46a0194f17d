import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from merchantguard.core.errors import RecordError
from merchantguard.serve import Scorer
from merchantguard.serve.bulk.core import BatchOptions, BatchScorer
from merchantguard.serve.bulk.schema import conform
from merchantguard.serve.decision_record import DecisionRecord, Recorder

TEXTS = ["We sell crimson goods.", None, "A walrus.", "", "We sell crimson goods.", "half \ufffd a letter"]


def batch(texts: list[Any], **columns: list[Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"merchant": list(range(len(texts))), "text": texts, **columns})


def test_rows_keep_their_place_and_columns_and_answers_are_the_scorers(scorer: Scorer) -> None:
    given = batch(TEXTS, country=["DE", None, "FR", "US", "DE", "IT"])
    score = BatchScorer(scorer, given.schema, BatchOptions(id="merchant"))
    found = score(given)
    assert found.schema == score.schema
    rows = found.to_pylist()
    assert [row["merchant"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["country"] for row in rows] == ["DE", None, "FR", "US", "DE", "IT"]
    assert "text" not in rows[0]
    assert [row["error"] is None for row in rows] == [True, False, True, False, True, True]
    assert rows[1]["error"] == "the text is null"
    assert "empty" in rows[3]["error"]
    assert rows[1]["decision"] is None
    for row, text in zip(rows, TEXTS, strict=True):
        if row["error"] is None:
            alone = scorer.assess(str(text))
            assert row["decision"] == alone.decision
            assert np.allclose([p for _, p in row["probabilities"]], alone.probabilities, atol=1e-5)
            assert [f["policy"] for f in row["findings"]] == [f.policy for f in alone.findings]


def test_equal_texts_are_scored_once_a_batch(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    assess_many = Scorer.assess_many

    def watch(self: Scorer, texts: Any, **given: Any) -> Any:
        seen.extend(texts)
        return assess_many(self, texts, **given)

    monkeypatch.setattr(Scorer, "assess_many", watch)
    given = batch(["walrus"] * 50 + ["teapot"])
    BatchScorer(scorer, given.schema)(given)
    assert seen == ["walrus", "teapot"]


def test_a_text_that_makes_the_scorer_fail_costs_its_own_row(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assess_many = Scorer.assess_many

    def fail(self: Scorer, texts: Any, **given: Any) -> Any:
        if "poison" in texts:
            raise RuntimeError("a tokenizer gave up")
        return assess_many(self, texts, **given)

    monkeypatch.setattr(Scorer, "assess_many", fail)
    given = batch([*(f"letter {n}" for n in range(9)), "poison", "walrus"])
    rows = BatchScorer(scorer, given.schema)(given).to_pylist()
    assert [row["error"] for row in rows] == [None] * 9 + ["RuntimeError: a tokenizer gave up", None]
    assert rows[10]["findings"][0]["policy"] == "beta"


def test_pages_are_a_site(scorer: Scorer) -> None:
    pages = [
        [
            {"url": "https://a.example/1", "text": "Call us."},
            None,
            {"url": "https://a.example/2", "text": "Call us.\nA walrus."},
        ],
        [],
        [{"url": "https://b.example", "text": "teapot"}],
    ]
    given = pa.RecordBatch.from_pydict({"pages": pages})
    rows = BatchScorer(scorer, given.schema, BatchOptions(text="pages"))(given).to_pylist()
    [finding] = rows[0]["findings"]
    assert (finding["policy"], finding["spans"][0]["url"]) == ("beta", "https://a.example/2")
    assert rows[1]["error"] is not None
    assert rows[2]["findings"][0]["policy"] == "gamma"


def test_the_decision_record_is_a_column(scorer: Scorer) -> None:
    given = batch(["We sell crimson goods.", None])
    recorder = Recorder(scorer.bundle, b"0123456789abcdef", scorer.variant)
    rows = BatchScorer(scorer, given.schema, BatchOptions(id="merchant"), recorder=recorder)(
        given
    ).to_pylist()
    record = DecisionRecord.from_dict(json.loads(rows[0]["decision_record"]))
    assert (record.decision, record.record_id) == ("block", "0")
    assert rows[1]["decision_record"] is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["x"]}, "no column 'text'"),
        ({"text": [1]}, "must hold texts"),
        ({"text": ["x"], "decision": ["y"]}, "decision have names that results use"),
    ],
)
def test_columns_that_do_not_fit_are_named(scorer: Scorer, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        BatchScorer(scorer, pa.RecordBatch.from_pydict(columns).schema)


def test_columns_are_matched_by_name_not_by_position() -> None:
    schema = pa.schema({"a": pa.float32(), "b": pa.float32()})
    swapped = pa.RecordBatch.from_pydict({"b": [2.0], "a": [1.0], "more": ["x"]})
    assert conform(swapped, schema).to_pylist() == [{"a": 1.0, "b": 2.0}]
    with pytest.raises(RecordError, match="lack the columns b"):
        conform(pa.RecordBatch.from_pydict({"a": [1.0]}), schema)
    with pytest.raises(RecordError, match="do not fit"):
        conform(pa.RecordBatch.from_pydict({"a": ["x"], "b": [1.0]}), schema)


def test_large_strings_and_empty_batches(bundle_path: Path, scorer: Scorer) -> None:
    given = pa.RecordBatch.from_arrays([pa.array(["walrus"], type=pa.large_string())], names=["text"])
    score = BatchScorer(scorer, given.schema)
    assert score(given).to_pylist()[0]["findings"][0]["policy"] == "beta"
    assert score(given.slice(0, 0)).num_rows == 0
