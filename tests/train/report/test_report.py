import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from merchantguard.core.decisions import Calibration
from merchantguard.core.labels import LabelMatrix
from merchantguard.data.taxonomy import Policy, Taxonomy
from merchantguard.train.calibration.thresholds import Targets, fit_thresholds
from merchantguard.train.evaluation.breakdown import REVIEW_BUDGETS
from merchantguard.train.evaluation.decision_rule import DecisionRule
from merchantguard.train.evaluation.evaluate import evaluate
from merchantguard.train.evaluation.predictions import Predictions
from merchantguard.train.report.charts import precision_recall_points, trade_off_points, training_charts
from merchantguard.train.report.page import content_policy
from merchantguard.train.report.report import RunReport, write_report

MARKUP = "</script><img src=x onerror=alert(1)><!--<script>{{ 7*7 }}&amp;\"'"
HOSTILE = (
    MARKUP,
    "A" * 1_000_000,
    "pay\u202egnp.exe\u2066 zero\u200bwidth \ud800 \x00",
    "e" + "\u0301" * 500,
)
LOG = [{"step": step, "epoch": step / 4, "loss": 1 / step, "learning_rate": 1e-3} for step in range(1, 9)] + [
    {"step": 8, "validation_macro_average_precision": None}
]


class Page(HTMLParser):
    """Elements with attributes, and the text outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            key = str(self.elements[-1][1].get("id", f"code-{len(self.scripts)}"))
            self.scripts[key] = self.scripts.get(key, "") + data
        elif self._open != "style":
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def example(records: int = 60) -> RunReport:
    """A report where the first four records are surest false alarms with hostile text."""
    generator = np.random.default_rng(0)
    taxonomy = Taxonomy(1, tuple(Policy(f"p{k}", f"Policy <{k}>", "restricted", "c", "") for k in range(3)))
    labels = (generator.random((records, 3)) < 0.3).astype(np.float32)
    logits = (generator.normal(size=labels.shape) + 2 * labels).astype(np.float32)
    labels[:4], logits[:4] = 0, 9
    predictions = Predictions(
        ids=(*(f"{text[:40]}" for text in HOSTILE), *(f"r{row}" for row in range(4, records))),
        logits=logits,
        labels=LabelMatrix(labels, np.ones(labels.shape)),
        domains=tuple(f"d{row}" for row in range(records)),
        slices={"form": tuple(MARKUP if row == 0 else f"form {row % 20}" for row in range(records))},
        texts=(*HOSTILE, *("plain" for _ in range(4, records))),
    )
    calibration = Calibration.identity(3)
    thresholds = fit_thresholds(
        calibration.apply(logits), predictions.labels, taxonomy.ids, targets=Targets(precision_target=0.9)
    )
    rule = DecisionRule(calibration, thresholds)
    return RunReport(
        title="Run <b>one</b>",
        evaluation=evaluate(predictions, rule, taxonomy, bootstrap=5),
        predictions=predictions,
        rule=rule,
        taxonomy=taxonomy,
        log=LOG,
        settings={"model": {"rank": 16}, "note": MARKUP},
        environment={"python": "3.11"},
        data={"train.jsonl": "ab" * 32},
        limits=["Only for <tests>."],
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, example())
    return path


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    parsed = Page()
    parsed.feed(written.read_text(encoding="utf-8"))
    return parsed


def test_it_is_one_file_of_bounded_size(written: Path) -> None:
    assert os.listdir(written.parent) == ["report.html"]
    assert written.stat().st_size < 3_000_000


def test_nothing_is_fetched(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("img", "iframe", "link", "object", "embed", "base", "form", "svg"), tag
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes), attributes
        assert (attributes.get("href") or "#").startswith("#")
    (policy,) = (a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_the_policy_allows_the_scripts_that_are_there_and_no_other(page: Page) -> None:
    code = [text for name, text in page.scripts.items() if name.startswith("code-")]
    (policy,) = (a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert len(code) == 2
    assert content_policy(code) == policy


def test_hostile_text_shows_as_text(page: Page) -> None:
    assert MARKUP in page.text
    assert "pay⟨RLO⟩gnp.exe⟨LRI⟩ zero⟨ZWSP⟩width" in page.text
    assert "A" * 600 + "…" in page.text
    assert "A" * 601 not in page.text
    assert "Run <b>one</b>" in page.text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00]", page.text)


def test_every_chart_has_its_specification(page: Page) -> None:
    wanted = [str(a["data-spec"]) for _, a in page.elements if "data-spec" in a]
    specs = {name: json.loads(text) for name, text in page.scripts.items() if name.startswith("spec-")}
    assert sorted(wanted) == sorted(specs)
    assert len(wanted) == len(set(wanted)) >= 6
    assert all("vega-lite" in spec["$schema"] for spec in specs.values())


def test_the_contents_lead_somewhere(page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.elements}
    links = [str(a["href"])[1:] for tag, a in page.elements if tag == "a"]
    assert links
    assert set(links) <= ids


def test_what_was_asked_for_is_there(page: Page) -> None:
    for words in (
        "Macro average precision",
        "model.rank",
        "ab" * 32,
        "Only for <tests>.",
        "Not certified",
        "Of 3 policies",
    ):
        assert words in page.text, words
    assert "6 smaller values are left out" in page.text


def test_a_run_without_violations_or_log_still_reports(tmp_path: Path) -> None:
    report = example()
    chosen = report.predictions.select(report.predictions.labels.compliant)
    evaluation = evaluate(chosen, report.rule, report.taxonomy, bootstrap=0)
    write_report(tmp_path / "r.html", replace(report, predictions=chosen, evaluation=evaluation, log=[]))
    parsed = Page()
    parsed.feed((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "No violation is below its review threshold." in parsed.text
    assert "#training" not in [a.get("href") for _, a in parsed.elements]


def test_curve_points_end_at_full_recall_and_skip_policies_without_violations() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1], [0.1, 0.1]])
    labels = np.array([[0, 0], [1, 0], [1, 0], [0, 0]])
    points = precision_recall_points(scores, LabelMatrix(labels, np.ones((4, 2))), ["a", "b"])
    assert [(p["policy"], p["recall"], p["precision"]) for p in points] == [
        ("a", 0.5, 0.5),
        ("a", 1.0, 0.6667),
    ]


def test_only_numbers_seen_twice_are_drawn() -> None:
    assert [name for name, _ in training_charts(LOG)] == ["loss", "learning rate"]
    assert training_charts([]) == []


def test_pooled_certificates_are_told_apart(tmp_path: Path) -> None:
    report = example()
    (first, *others), small = report.rule.thresholds, {"violating": 90, "found": 80, "ordinary": 4_000}
    pooled = replace(
        first.block_certificate, threshold=0.9, certified=True, scope="pooled", wrong_policy=4, **small
    )
    shared = replace(first, block=0.9, review=0.1, block_certificate=pooled)
    rule = replace(report.rule, thresholds=[shared, *others], pooled=pooled)
    write_report(tmp_path / "r.html", replace(report, rule=rule))
    parsed = Page()
    parsed.feed((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "1 by a pooled one" in parsed.text
    assert "5.0\u00a0% of the found are blocked for a policy that they do not violate" in parsed.text
    assert "Pooled" in parsed.text


def test_the_trade_off_falls_with_the_budget() -> None:
    report = example(400)
    rows = report.evaluation.trade_off
    assert len(rows) == 5
    assert all(row.ordinary <= budget for row, budget in zip(rows, REVIEW_BUDGETS, strict=True))
    assert [row.violating for row in rows] == sorted(row.violating for row in rows)
    decided = report.rule.decide(report.predictions, report.taxonomy)
    points = trade_off_points(decided.any_violation, decided.labels)
    for point in points:
        over = decided.any_violation >= point["limit"] - 6e-6
        assert point["reviewed"] == pytest.approx(over[decided.labels.compliant].mean(), abs=0.01)
    assert trade_off_points(decided.any_violation[:0], decided.labels[:0]) == []
