"""Items of a scan: every queue from records and probabilities, controls that are a fair sample, gold answers that are right."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merchantguard.audit.sampling.scan import ModelOutputs, Sizes, scan_records
from merchantguard.audit.storage.items import Item
from merchantguard.core.errors import AuditError
from merchantguard.data.records.record import Record, parse_record
from merchantguard.data.taxonomy import Taxonomy

TAXONOMY = Taxonomy.from_json(
    {
        "version": 1,
        "policies": [
            {"id": name, "title": name.title(), "severity": severity, "covers": name, "not": ""}
            for name, severity in (
                ("crimson", "prohibited"),
                ("walrus", "restricted"),
                ("teapot", "restricted"),
            )
        ],
    }
)
WORDS = [
    "ledger",
    "harbour",
    "velvet",
    "copper",
    "meadow",
    "lantern",
    "bicycle",
    "orchard",
    "pebble",
    "saddle",
]


def _rows(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Records that name their policies' words, each with evidence."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        labels = [policy for policy in TAXONOMY.ids if draw.random() < 0.25]
        text = " ".join([*draw.choice(WORDS, 12), *(f"{policy} goods" for policy in labels), str(number)])
        evidence = {policy: [f"{policy} goods"] for policy in labels}
        rows.append({"id": f"r{number}", "text": text, "labels": labels, "evidence": evidence})
    return rows


def _records(rows: Sequence[dict[str, Any]]) -> list[Record]:
    return [parse_record(row, TAXONOMY, row_number=number) for number, row in enumerate(rows, start=1)]


def _relabel(row: dict[str, Any], labels: list[str]) -> None:
    row["labels"] = labels
    row["evidence"] = {policy: quotes for policy, quotes in row["evidence"].items() if policy in labels}


def _outputs(rows: Sequence[dict[str, Any]], *, seed: int = 1) -> ModelOutputs:
    """Of a model that reads the text: right, but unsure."""
    draw = np.random.default_rng(seed)
    says = np.array([[f"{policy} goods" in row["text"] for policy in TAXONOMY.ids] for row in rows])
    return ModelOutputs(np.clip(np.where(says, 0.85, 0.08) + draw.normal(0, 0.04, says.shape), 0.001, 0.999))


def _scan(rows: Sequence[dict[str, Any]], **more: Any) -> list[Item]:
    return scan_records(_records(rows), TAXONOMY, _outputs(rows), **more).items


def _first(items: Sequence[Item], record: str, cause: str) -> Item:
    return next(item for item in items if item.record == record and item.cause == cause)


def test_each_cause_is_recognised() -> None:
    rows = _rows(300)
    for number, (labels, _) in enumerate([(["crimson"], "spare"), ([], "lost"), (["walrus"], "swapped")]):
        words = WORDS[
            :: (1, -1, 3)[number]
        ]  # in orders of their own: texts alike would contradict each other
        rows[number]["text"] = " ".join(words) + f" {number}" + (" crimson goods" if number else "")
        rows[number] |= {"labels": labels, "evidence": {}}
    items = _scan(rows)
    assert _first(items, "r0", "wrong_positive").policy == "crimson"
    lost = _first(items, "r1", "missing_positive")
    assert (lost.policy, lost.given) == ("crimson", False)
    swapped = _first(items, "r2", "confused_pair")
    assert (swapped.policy, swapped.other_policy, swapped.given) == ("walrus", "crimson", True)
    # The label that is missing must be answerable too.
    assert _first(items, "r2", "missing_positive").policy == "crimson"
    for item in (lost, swapped):
        others = [one.p_label_error for one in items if one.cause == "control" and one.given == item.given]
        assert item.p_label_error > 10 * np.median(others)


def test_suspects_come_once_the_most_valuable_first() -> None:
    rows = _rows(200)
    for number in range(0, 40, 2):
        _relabel(
            rows[number], [policy for policy in TAXONOMY.ids if policy not in rows[number]["labels"]][:1]
        )
    items = [item for item in _scan(rows, sizes=Sizes(suspects=50)) if item.cause not in ("control", "gold")]
    assert len(items) == 50
    assert max(Counter((item.record, item.policy) for item in items).values()) == 1
    values = [item.value for item in items]
    assert values == sorted(values, reverse=True)
    weights = {"crimson": 2.0, "walrus": 1.0, "teapot": 1.0}
    for item in items:
        assert item.value == pytest.approx(item.p_label_error * weights[item.policy] * item.duplicate_count)


def test_two_annotators_of_one_text_disagree_and_copies_contradict() -> None:
    rows = _rows(100)
    long = " ".join(WORDS * 4)
    for number, (labels, who, text) in enumerate(
        [
            (["walrus"], "ann", long),
            ([], "bob", long.upper()),
            (["teapot"], "ann", "red " + long[::-1]),
            ([], "ann", long[::-1]),
        ]
    ):
        rows[number] |= {"text": text, "labels": labels, "evidence": {}, "annotator": who}
    items = _scan(rows)
    split = next(item for item in items if item.cause == "annotator_disagreement")
    assert {split.record, split.other_record, split.policy} == {"r0", "r1", "walrus"}
    assert split.duplicate_count == 2
    copies = next(item for item in items if item.cause == "contradicting_duplicates")
    assert {copies.record, copies.other_record, copies.policy} == {"r2", "r3", "teapot"}


def test_drift_is_a_queue_of_the_later_labels() -> None:
    rows = _rows(600)
    for number, row in enumerate(rows):
        row |= {"annotator": f"a{number % 2}", "labelled_at": f"2026-{1 + number // 50:02d}-01"}
        if number % 2 and number > 300:
            _relabel(row, [policy for policy in row["labels"] if policy != "walrus"])
    items = [item for item in _scan(rows) if item.cause == "annotator_drift"]
    assert len(items) > 20
    assert {item.policy for item in items} == {"walrus"}
    assert all(int(item.record[1:]) % 2 and not item.given for item in items)
    assert items[0].reasons[0].name == "drift"


def test_controls_stand_for_all_known_cells() -> None:
    rows = _rows(400)
    for row in rows[:50]:
        row["unknown"] = [policy for policy in ("teapot",) if policy not in row["labels"]]
    cells = sum(3 - len(row.get("unknown", [])) for row in rows)
    drawn = [item for item in _scan(rows, sizes=Sizes(controls=120)) if item.cause == "control"]
    assert 100 <= len(drawn) <= 140
    for given in (True, False):
        known = sum(
            (policy in row["labels"]) == given
            for row in rows
            for policy in TAXONOMY.ids
            if policy not in row.get("unknown", [])
        )
        assert sum(1 / item.inclusion_probability for item in drawn if item.given == given) == pytest.approx(
            known
        )
    assert sum(1 / item.inclusion_probability for item in drawn) == pytest.approx(cells)


def test_controls_measure_the_errors_without_bias() -> None:
    rows = _rows(300)
    wrong = set()
    for number in range(0, 300, 10):
        wrong.add((f"r{number}", "crimson"))
        _relabel(rows[number], sorted({*rows[number]["labels"]} ^ {"crimson"}))
    records, outputs = _records(rows), _outputs(rows)
    estimates = []
    for seed in range(30):
        items = scan_records(
            records, TAXONOMY, outputs, sizes=Sizes(suspects=1, controls=150), seed=seed
        ).items
        estimates.append(
            sum(
                1 / i.inclusion_probability
                for i in items
                if i.cause == "control" and (i.record, i.policy) in wrong
            )
        )
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(len(wrong), abs=4 * error)


def test_gold_answers_are_right_and_are_listed_as_nothing_else() -> None:
    rows = _rows(300)
    items = _scan(rows, sizes=Sizes(gold=30))
    gold_items = [item for item in items if item.cause == "gold"]
    assert len(gold_items) == 30
    assert {item.gold_answer for item in gold_items} == {True, False}
    by_id = {row["id"]: row for row in rows}
    assert all((item.policy in by_id[item.record]["labels"]) == item.gold_answer for item in gold_items)
    cells = Counter((item.record, item.policy) for item in items)
    assert all(cells[item.record, item.policy] == 1 for item in gold_items)


def test_gold_answers_count_against_the_given_label() -> None:
    rows = _rows(200)
    gold = _records([dict(row) for row in rows[:40]])
    for row in rows[:40]:
        _relabel(row, [])
    gold_items = [item for item in _scan(rows, gold=gold, sizes=Sizes(gold=20)) if item.cause == "gold"]
    assert len(gold_items) == 20
    truth = {record.id: record.labels for record in gold}
    assert all(item.gold_answer == (item.policy in truth[item.record]) for item in gold_items)
    assert any(item.gold_answer and not item.given for item in gold_items)


def test_gold_of_other_records_is_refused() -> None:
    gold = _records([{"id": "elsewhere", "text": "velvet", "labels": []}])
    with pytest.raises(AuditError, match="same ids"):
        _scan(_rows(50), gold=gold)


def test_the_same_seed_gives_the_same_items(tmp_path: Path) -> None:
    rows = _rows(120)
    assert _scan(rows, seed=4) == _scan(rows, seed=4)
    assert _scan(rows, seed=4) != _scan(rows, seed=5)
