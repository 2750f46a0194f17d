"""Comparing two models: differences that are paired, tests that are exact, records that say what happened to them."""

import html
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.cli import main as command
from merchantguard.core.decisions import Calibration
from merchantguard.core.errors import RunError
from merchantguard.core.labels import LabelMatrix
from merchantguard.data.taxonomy import Policy, Taxonomy
from merchantguard.train.calibration.thresholds import fit_thresholds
from merchantguard.train.evaluation.bootstrap import cluster_interval
from merchantguard.train.evaluation.compare import ComparedModel, compare
from merchantguard.train.evaluation.decision_rule import DecisionRule
from merchantguard.train.evaluation.evaluate import evaluate
from merchantguard.train.evaluation.metrics import macro_average_precision
from merchantguard.train.evaluation.predictions import Predictions
from merchantguard.train.report.compare_report import format_comparison, write_comparison

POLICIES = ("alpha", "beta", "gamma")
HOSTILE = "</script><script>alert(1)</script>\u202eevil"


def taxonomy() -> Taxonomy:
    return Taxonomy(1, tuple(Policy(name, f"Policy {name}", "restricted", "c", "") for name in POLICIES))


def model(name: str, *, noise: float, seed: int = 0, records: int = 200) -> ComparedModel:
    """A model whose logits are the truth under so much noise."""
    draw = np.random.default_rng(0)
    values = (draw.random((records, 3)) < 0.25).astype(np.float32)
    labels = LabelMatrix(values, draw.random((records, 3)) < 0.95)
    logits = 3.0 * (values - 0.5) + noise * np.random.default_rng(seed).normal(size=values.shape)
    predictions = Predictions(
        ids=tuple(f"r{i}" for i in range(records)),
        logits=logits.astype(np.float32),
        labels=labels,
        domains=tuple(f"d{i // 3}" for i in range(records)),
        slices={},
        texts=(HOSTILE,) * records,
    )
    calibration = Calibration.identity(3)
    thresholds = fit_thresholds(calibration.apply(logits), labels, POLICIES, clusters=predictions.domains)
    return ComparedModel(name, predictions, DecisionRule(calibration, thresholds))


def test_a_model_compared_with_itself_differs_in_nothing() -> None:
    one = model("one", noise=1.0)
    result = compare(one, replace(one, name="two"), taxonomy(), bootstrap=50)
    for row in result.headline.values():
        assert (row.change, row.low, row.high, row.verdict) == (0.0, 0.0, 0.0, "")
    assert result.changed == ()
    assert all(row.p == 1.0 for row in result.mcnemar)


def test_values_are_those_of_evaluate_and_differences_those_of_the_paired_bootstrap() -> None:
    one, two = model("one", noise=3.0), model("two", noise=1.0, seed=5)
    result = compare(one, two, taxonomy(), bootstrap=400)
    for key, each in (("first", one), ("second", two)):
        metrics = evaluate(each.predictions, each.rule, taxonomy(), bootstrap=0)
        for name, figure in metrics.headline.items():
            assert getattr(result.headline[name], key) == figure.value
    before, after = (each.rule.decide(each.predictions, taxonomy()).probabilities for each in (one, two))
    labels = one.predictions.labels

    def difference(rows: np.ndarray) -> float:
        macro = macro_average_precision
        return macro(after[rows], labels[rows]) - macro(before[rows], labels[rows])

    row = result.headline["macro_average_precision"]
    assert row.change == pytest.approx(difference(np.arange(200)))
    # Two bootstraps with other random numbers: their ends agree up to the noise of 400 draws.
    other = cluster_interval(difference, one.predictions.domains, samples=400, seed=9)
    assert (row.low, row.high) == pytest.approx(other, abs=0.02)
    assert row.verdict == "better"
    assert result.headline["brier_score"].verdict == "better"  # lower is better there


def test_pairing_narrows_the_interval() -> None:
    one = model("one", noise=2.0)
    nudged = one.predictions.logits + 0.2 * np.random.default_rng(1).normal(size=one.predictions.logits.shape)
    two = replace(one, name="two", predictions=replace(one.predictions, logits=nudged))
    row = compare(one, two, taxonomy(), bootstrap=300).headline["macro_average_precision"]
    alone = evaluate(one.predictions, one.rule, taxonomy(), bootstrap=300)
    single = alone.headline["macro_average_precision"]
    assert row.high - row.low < 0.5 * (single.high - single.low)  # type: ignore[operator]


def test_mcnemar_is_the_exact_binomial_of_what_differs() -> None:
    one, two = model("one", noise=3.0), model("two", noise=0.3, seed=2)
    result = compare(one, two, taxonomy(), bootstrap=20)
    row = next(r for r in result.mcnemar if (r.at, r.of) == ("review", "compliant"))
    differ, least = row.only_first + row.only_second, min(row.only_first, row.only_second)
    assert differ > 10
    choose = [1.0]
    for k in range(differ):
        choose.append(choose[-1] * (differ - k) / (k + 1))
    assert row.p == pytest.approx(min(1.0, 2 * sum(choose[: least + 1]) / 2**differ))


@settings(deadline=None)
@given(st.integers(0, 2**16), st.floats(0.0, 4.0))
def test_changed_records_add_up(seed: int, noise: float) -> None:
    one, two = model("one", noise=1.0, records=40), model("two", noise=noise, seed=seed, records=40)
    two = replace(two, rule=one.rule)
    result = compare(one, two, taxonomy(), bootstrap=1)
    table = np.array(result.decisions)
    assert table.sum() == 40
    moved = [row for row in result.changed if row.before != row.after]
    assert table.sum() - np.trace(table) == len(moved)
    fixed = sum(row.effect == "fixed" for row in result.changed)
    # Without block thresholds a record moves between clear and review, where a fixed one is now decided correctly.
    if all(threshold.block is None for threshold in one.rule.thresholds):
        whole = next(r for r in result.mcnemar if (r.at, r.of) == ("review", "all"))
        assert fixed == whole.only_second
    for row in result.changed:
        assert row.flags_gone or row.flags_new or row.before != row.after


def test_other_records_are_refused() -> None:
    with pytest.raises(RunError, match="not for the same ones"):
        compare(model("one", noise=1.0), model("two", noise=1.0, records=9), taxonomy())


def test_the_page_is_one_file_where_merchants_text_cannot_act(tmp_path: Path) -> None:
    one, two = model(HOSTILE, noise=3.0), model("two", noise=0.5, seed=2)
    result = compare(one, two, taxonomy(), bootstrap=20)
    assert result.changed
    write_comparison(tmp_path / "comparison.html", result, taxonomy())
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "default-src 'none'" in html.unescape(page)
    assert "http://" not in page
    assert "https://" not in page
    assert "macro average precision" in format_comparison(result)


@pytest.fixture(scope="module")
def two_runs(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_base: Path,
    taxonomy_file: Path,
    write_tiny_records: Callable[..., Path],
) -> tuple[Path, Path, Path]:
    """Two runs of one configuration with other seeds, and the records of both."""
    folder = tmp_path_factory.mktemp("compared")
    data = write_tiny_records(folder / "records.jsonl")
    call: list[Any] = [
        f"model.base={tiny_base}",
        "model.window_tokens=24",
        "model.stride_tokens=6",
        "optim.epochs=1",
        "optim.learning_rate=0.01",
        "loop.trackers=[]",
        f"data.taxonomy={taxonomy_file}",
        *("data.train=0.4", "data.validation=0.2", "data.calibration=0.2", "data.test=0.2"),
    ]
    runs = [folder / name for name in ("a", "b")]
    for seed, run in enumerate(runs):
        arguments = ["train", *call, f"seed={seed}", "--data", str(data), "--out", str(run)]
        assert command(arguments) == 0
    return runs[0], runs[1], data


def test_compare_runs_on_the_records_that_both_hold_for_tests(
    two_runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, data = two_runs
    call = ["compare", str(first), str(second), str(data), "--out", str(tmp_path), "--bootstrap", "20"]
    assert command(call) == 0
    shown = capsys.readouterr()
    test_ids = json.loads((first / "splits.json").read_text())["ids"]["test"]
    result = json.loads((tmp_path / "comparison.json").read_text())
    assert result["records"] == len(test_ids)
    assert f"{96 - len(test_ids)} records that a run was fitted on" in shown.err
    assert str(first) in shown.out  # one configuration, one name: the folders tell the runs apart
    assert (tmp_path / "comparison.html").is_file()
    for run, key in ((first, "first"), (second, "second")):
        own = json.loads((run / "metrics.json").read_text())["test"]["headline"]
        for name, figure in own.items():
            if figure["value"] is not None:
                assert result["headline"][name][key] == pytest.approx(figure["value"], abs=1e-5)


def test_records_that_all_were_trained_on_are_refused(
    two_runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, data = two_runs
    trained = set(json.loads((first / "splits.json").read_text())["ids"]["train"])
    chosen = tmp_path / "trained.jsonl"
    lines = data.read_text().splitlines(keepends=True)
    chosen.write_text("".join(line for line in lines if json.loads(line)["id"] in trained))
    assert command(["compare", str(first), str(second), str(chosen)]) == 2
    assert "--all" in capsys.readouterr().err
