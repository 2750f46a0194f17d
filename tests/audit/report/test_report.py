"""The report of an audit: its tables, its page, and the comparison of retrained models."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from merchantguard.audit.estimation.agreement import agreement
from merchantguard.audit.report.tables import audit_tables, touched_records
from merchantguard.audit.storage.items import Answer, AnswerKind, Item
from merchantguard.audit.storage.journal import Journal
from merchantguard.audit.storage.store import Scan
from merchantguard.audit_cli import main

HOSTILE = "<script>alert(1)</script>\u202e<img src=x onerror=alert(2)>"
ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": f"crimson {HOSTILE}", "labels": ["crimson"], "annotator": "<b>eve</b>"},
    {"id": "b", "text": "walrus goods", "labels": ["walrus"], "annotator": "adam"},
    {"id": "c", "text": "walrus goods", "labels": [], "annotator": "eve"},
    {"id": "<i>d</i>", "text": "compliant", "labels": ["crimson"], "annotator": "adam"},
]


def _item(record: str, policy: str, given: bool = True, **fields: Any) -> Item:
    return replace(
        Item(record, policy, given, "wrong_positive", p_label_error=0.9, model_probability=0.1), **fields
    )


def _answer(record: str, policy: str, kind: AnswerKind, reviewer: str = "ann", **fields: Any) -> Answer:
    base = Answer(reviewer, record, policy, kind, "first", "2026-11-01T10:00:00+00:00", 4_000, "test 1", {})
    return replace(base, **fields)


ITEMS = [
    _item("a", "crimson"),
    _item("a", "walrus", False, cause="confused_pair"),
    _item("b", "walrus", cause="contradicting_duplicates"),
    _item("<i>d</i>", "crimson", cause="control", inclusion_probability=0.5),
    _item("c", "walrus", False, cause="gold", gold_answer=False),
]
ANSWERS = [
    _answer("a", "crimson", "has_not", comment=HOSTILE),
    _answer("a", "crimson", "has_not", reviewer=HOSTILE[:20], stage="second"),
    _answer("a", "walrus", "has"),
    _answer("b", "walrus", "has", shown={"exact_duplicates": ["c"]}, milliseconds=8_000),
    _answer("<i>d</i>", "crimson", "has"),
    _answer("<i>d</i>", "crimson", "has_not", reviewer="bob", stage="second"),
    _answer("b", "walrus", "comment", comment="the tusks are real"),
]


def test_alpha_is_that_of_the_book_and_has_an_interval() -> None:
    # Krippendorff (2011), "Computing Krippendorff's alpha-reliability", example A: two observers, ten units, binary data.
    meg, owen = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    votes = [[bool(a), bool(b)] for a, b in zip(meg, owen, strict=True)]
    found = agreement([*votes, [True]])
    assert found.alpha.point == pytest.approx(0.095, abs=0.001)
    assert found.alpha.low < found.alpha.point < found.alpha.high
    assert (found.cells, found.same) == (10, 6)
    assert math.isnan(agreement([[True, True]] * 3).alpha.point)
    assert agreement([]).cells == 0


def test_tables_count_what_was_decided(write_audit: Callable[..., Path]) -> None:
    folder = write_audit(ROWS, ITEMS, ANSWERS, duplicates=[0, 1, 1, 2])
    scan, journal = Scan(folder), Journal(folder)
    tables = audit_tables(scan, journal.answers())
    assert [(c.record, c.policy, c.new, c.duplicate_of) for c in tables.changes] == [
        ("a", "crimson", False, None),
        ("a", "walrus", True, None),
    ]
    assert tables.swaps == {("crimson", "walrus"): 1}
    assert tables.errors == {("crimson", "wrong_positive"): 1, ("walrus", "confused_pair"): 1}
    assert (tables.reviewers.cells, tables.reviewers.same) == (2, 1)
    # b and c are near-duplicates of two annotators: they agree on one policy and differ on the other.
    assert (tables.annotators.cells, tables.annotators.same) == (2, 1)
    assert (tables.duplicate_groups, tables.duplicate_records, tables.contradictions) == (1, 2, (1, 1))
    assert tables.disputed == (("<i>d</i>", "crimson"),)
    rates = {(row.annotator, row.policy): (row.decided, row.right.point) for row in tables.reliability}
    assert rates == {
        ("<b>eve</b>", "crimson"): (1, 0.0),
        ("<b>eve</b>", "walrus"): (1, 0.0),
        ("adam", "walrus"): (1, 1.0),
    }
    (ann,) = (row for row in tables.pace if row.reviewer == "ann")
    assert (ann.day, ann.answers, ann.seconds) == ("2026-11-01", 4, 4.0)
    assert touched_records(journal.answers()) == {"a", "b", "c", "<i>d</i>"}


def test_the_page_shows_hostile_text_and_runs_none_of_it(
    write_audit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_audit(ROWS, ITEMS, ANSWERS)
    assert main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for raw in ("<script>alert", "<img src=x", "<b>eve", "<i>d</i>", "\u202e"):
        assert raw not in page
    for shown in ("&lt;script&gt;alert(1)", "⟨RLO⟩", "&lt;b&gt;eve", "&lt;i&gt;d"):
        assert shown in page
    assert "default-src &#39;none&#39;" in page
    assert "the tusks are real" in page  # a comment on a label that stays
    assert "needs 5 labels with two votes, has 2" in page  # no agreement from two cells
    for text in (
        "Label may be wrong",
        "Krippendorff",
        "every label that the scan lists is checked",
        'data-spec="spec-errors"',
    ):
        assert text in page


def test_answers_to_an_earlier_scan_with_other_policies_do_no_harm(write_audit: Callable[..., Path]) -> None:
    gone = [_answer("a", "teapot", "has"), _answer("a", "teapot", "has_not", reviewer="bob")]
    folder = write_audit(ROWS, ITEMS, [*ANSWERS, *gone])
    assert main(["report", str(folder)]) == 0
    assert "</bdi>: teapot" in (folder / "report.html").read_text(encoding="utf-8")


def test_an_audit_without_answers_has_a_report_too(write_audit: Callable[..., Path]) -> None:
    folder = write_audit([{"id": "a", "text": "crimson", "labels": []}])
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Nobody has answered yet" in page
    assert "The scan lists no suspects" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optim.epochs=1"], "settings are for --retrain"),
        (["--retrain"], "no label has changed"),
        (["--retrain", "--seeds", "0,0"], "different numbers"),
        (["--retrain", "--seeds", "one"], "whole numbers"),
    ],
)
def test_what_cannot_be_done_is_said(
    write_audit: Callable[..., Path], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    folder = write_audit([{"id": "a", "text": "crimson", "labels": []}])
    assert main(["report", str(folder), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_retraining_compares_on_untouched_records_and_trains_nothing_twice(
    write_audit: Callable[..., Path],
    write_tiny_records: Callable[..., Path],
    tiny_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write_tiny_records(tmp_path / "records.jsonl", count=160)
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    wrong = [row["id"] for row in rows if "crimson" in row["labels"]][:12]
    for row in rows:
        if row["id"] in wrong:
            row["labels"].remove("crimson")
    answers = [_answer(name, "crimson", "has") for name in wrong]
    folder = write_audit(rows, [_item(name, "crimson", False) for name in wrong], answers)
    command = ["report", str(folder), "--retrain", "--seeds", "3"]
    command += [
        f"model.base={tiny_base}",
        "model.sha256=null",
        "model.window_tokens=32",
        "model.stride_tokens=8",
    ]
    command += ["model.ngram_buckets=0", "model.describe_head=false", "optim.mixed_precision=no"]
    command += ["optim.epochs=1", "lora.rank=2"]
    assert main(command) == 0
    assert capsys.readouterr().err.count(": training") == 2
    result = json.loads((folder / "retrain" / "retrain.json").read_text())
    assert [len(row["by_seed"]) for row in result["figures"]] == [1, 1]
    assert 0 < result["rows"] <= 160 - len(wrong)
    for row in result["figures"]:
        assert row["low"] <= row["change"] <= row["high"]
        assert row["change"] == pytest.approx(row["corrected"] - row["given"])
        assert row["change"] == pytest.approx(row["by_seed"][0])
    assert 'id="retraining"' in (folder / "report.html").read_text(encoding="utf-8")
    assert main(command) == 0
    assert capsys.readouterr().err.count("already finished") == 2
