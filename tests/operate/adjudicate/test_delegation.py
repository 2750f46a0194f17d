"""What may be decided without a person: certified, for one build, and never where a text attacks its reader."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest_adjudicate import TAXONOMY, TEXT, make_case

from merchantguard.data.records.record import parse_record
from merchantguard.operate.adjudicate.delegation import Delegation, DelegationError, certify, table
from merchantguard.operate.adjudicate.question import PROMPT_VERSION
from merchantguard.operate.adjudicate.results.decision_events import log_opinions
from merchantguard.operate.adjudicate.results.page import write_page
from merchantguard.operate.adjudicate.results.weak_records import annotator_table, weak_rows
from merchantguard.operate.adjudicate.verdicts import Row, read_rows, write_rows
from merchantguard.operate.log import LogWriter, histories, log_key
from merchantguard.serve.decision_record import DecisionRecord, hash_text, now, uuid7


def row(number: int = 0, **given: Any) -> Row:
    values: dict[str, Any] = {
        "record": f"m{number}", "policy": "whey", "verdict": "compliant", "stated": "compliant", "probability": 0.02, "encoder": 0.4,
        "quotes": ((24, 48),), "faults": (), "injection": (), "build": "b1", "prompt_version": PROMPT_VERSION, "prompt": "p" * 64,
        "text": "t", "cost": 0.0, "cached": False,
    }  # fmt: skip
    return Row(**(values | given))


def labelled(rows: list[Row], wrong: set[int] = frozenset()) -> dict[tuple[str, str], bool]:  # type: ignore[assignment]
    return {(each.record, each.policy): number in wrong for number, each in enumerate(rows)}


def test_fifty_eight_right_answers_prove_nothing_at_five_per_cent_and_fifty_nine_do() -> None:
    for count, proven in ((58, False), (59, True)):
        rows = [row(n, probability=0.001) for n in range(count)]
        [found] = certify(rows, labelled(rows), bundle="x", error=0.05, level=0.95).certificates
        assert (found.confidence is not None) == proven
        assert (found.error_bound <= 0.05) == proven


def test_a_certificate_is_wrong_no_more_often_than_stated() -> None:
    random = np.random.default_rng(0)
    false = 0
    for _ in range(200):
        # Every answer is wrong with 7 %, whatever its confidence: no certificate of 5 % is right.
        rows = [row(n, probability=float(p)) for n, p in enumerate(random.uniform(0, 0.05, 150))]
        wrong = set(np.flatnonzero(random.random(150) < 0.07).tolist())
        [found] = certify(rows, labelled(rows, wrong), bundle="x", error=0.05, level=0.95).certificates
        false += found.confidence is not None
    assert false <= 18  # 5 % of 200, with three standard deviations


@pytest.mark.parametrize(
    "given",
    [{"verdict": "violates"}, {"verdict": "cannot tell"}, {"probability": None}, {"probability": 0.3}, {"injection": ("override (text)",)},
     {"faults": ("x",)}, {"policy": "other"}],
)  # fmt: skip
def test_only_proven_confident_unsuspicious_compliance_is_cleared(given: dict[str, Any]) -> None:
    rows = [row(n, probability=0.001 + n * 1e-5) for n in range(80)]
    rules = certify(rows, labelled(rows), bundle="x", error=0.05, level=0.95)
    assert rules.move(row(probability=0.001)).move == "clear"
    moved = rules.move(row(**({"probability": 0.001} | given)))
    assert (moved.move, moved.rule) == ("review", None)


def test_rules_belong_to_one_build_bundle_and_prompt(tmp_path: Path) -> None:
    rows = [row(n, probability=0.001) for n in range(80)]
    certify(rows, labelled(rows), bundle="x", error=0.05, level=0.95).save(tmp_path / "rules.json")
    rules = Delegation.read(tmp_path / "rules.json")
    rules.check(build="b1", bundle="x")
    for given in ({"build": "b2", "bundle": "x"}, {"build": "b1", "bundle": "y"}):
        with pytest.raises(DelegationError, match="certify them again"):
            rules.check(**given)
    with pytest.raises(DelegationError, match="2 builds"):
        certify([*rows, row(99, build="b2")], labelled([*rows, row(99)]), bundle="x", error=0.05, level=0.95)
    with pytest.raises(DelegationError, match="no answer has a label"):
        certify(rows, {}, bundle="x", error=0.05, level=0.95)
    assert "100.0%" in table(rules, 0.001)


def test_rows_are_read_back(tmp_path: Path) -> None:
    rows = [row(1), row(2, verdict="cannot tell", probability=None, faults=("a",), injection=("b",))]
    write_rows(rows, tmp_path / "o.jsonl")
    assert list(read_rows(tmp_path / "o.jsonl")) == rows


def test_proven_answers_become_soft_records_and_others_do_not(tmp_path: Path) -> None:
    record = parse_record({"id": "m0", "text": TEXT, "labels": []}, None, row_number=1)
    rows = [
        row(0, probability=0.1),
        row(0, policy="p2", verdict="cannot tell"),
        row(0, policy="p3", injection=("x",)),
        row(5),
    ]
    [found] = weak_rows(rows, {"m0": record})
    assert found["weak"] == {"whey": {"target": 0.1, "weight": 0.8}}
    assert (found["labels"], found["unknown"], found["label_source"]) == ([], ["*"], "llm:b1")
    assert annotator_table(rows, tmp_path / "a.csv") == 4
    assert "m0,whey,has_not" in (tmp_path / "a.csv").read_text()


def test_opinions_are_logged_with_their_decision_once(tmp_path: Path) -> None:
    text = make_case().text
    with LogWriter(tmp_path) as log:
        decision = DecisionRecord(
            decision_id=uuid7(), time=now(), bundle="b", bundle_version="1", bundle_digest="d", variant="plain", cleaning_version="3",
            text_hmac=hash_text(text, log_key(tmp_path)), text_length=len(text), windows=1, truncated=False, probabilities={"whey": 0.4},
            any_violation=0.4, thresholds={"whey": (0.1, None)}, any_review=0.1, decision="review",
        )  # fmt: skip
        log.append(decision).result()
    cases = [(make_case(), row(0)), (make_case(text="another"), row(1))]
    assert log_opinions(cases, tmp_path) == (1, 1)
    assert log_opinions(cases, tmp_path) == (0, 1)
    [found] = histories(tmp_path)
    [event] = found.events
    assert (event.kind, event.source, event.labels) == ("adjudication", "llm:b1", {"whey": False})
    assert event.details["move"] == "review"


def test_the_page_escapes_hostile_text_and_marks_quotes(tmp_path: Path) -> None:
    text = "<script>alert(1)</script>\u202e We sell whey protein powder. Buy R-140 trenbolone vials."
    start = text.index("We sell")
    case = make_case(text=text)
    shown = replace(row(0), record="<b>m0</b>", quotes=((start, start + 27),), faults=("<i>",))
    write_page([(case, shown)], TAXONOMY, tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    assert "<script>" not in page
    assert "<b>m0</b>" not in page
    assert "⟨RLO⟩" in page
    assert '<mark class="q">We sell whey protein powder</mark>' in page
    assert '<mark class="f">R-140 trenbolone vials.</mark>' in page
