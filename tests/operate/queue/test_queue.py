"""The review queue from a real log: plan, answers, records, evaluation, and the arithmetic behind it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from merchantguard.cli import main
from merchantguard.operate.log import LogWriter, histories
from merchantguard.operate.monitor.estimates import NoSupport
from merchantguard.operate.monitor.example_log import _decision
from merchantguard.operate.queue.off_policy import off_policy, queue_value
from merchantguard.operate.queue.planning import plan_day, planned
from merchantguard.operate.queue.ranking import (
    Candidates,
    QueueSettings,
    inclusion_probabilities,
    poisson_sample,
    proportional,
    thompson_offsets,
)

KEY = b"a key of sixteen bytes"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, bool]]]:
    """A log of one day with texts, and the truth behind it."""
    folder = tmp_path_factory.mktemp("queue") / "log"
    random = np.random.default_rng(5)
    truths = {}
    with LogWriter(folder) as log:
        for k in range(600):
            record, truth = _decision(random, 0, k, 600, False)
            truths[record.decision_id] = truth
            log.append(replace(record, text=f"Text of a simulated merchant {k}", selection={}, selected=()))
    return folder, truths


def _run(*arguments: object) -> int:
    return main(["queue", *map(str, arguments)])


def test_from_a_log_to_records_and_an_evaluation(
    filled: tuple[Path, dict[str, dict[str, bool]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, truths = filled
    events, items = tmp_path / "events", tmp_path / "items.jsonl"
    assert _run("plan", log, "--events", events, "--looks", 150, "--thompson", "--to", items) == 0
    rows = [json.loads(line) for line in items.read_text().splitlines()]
    assert 100 < len(rows) < 200
    assert all(row["id"] == row["decision_id"] and row["text"] for row in rows)
    assert not any({"decision", "probabilities", "labels", "findings"} & set(row) for row in rows)

    answers = tmp_path / "answers.csv"
    lines = ["decision_id,reviewer,labels,time"]
    for row in rows:
        violated = ";".join(policy for policy, value in truths[row["id"]].items() if value) or "none"
        lines.append(f"{row['id']},ann,{violated},2026-11-02")
    answers.write_text("\n".join([*lines, f"{rows[0]['id']},bob,,"]) + "\n")
    assert _run("answers", log, answers, "--events", events) == 0
    assert _run("answers", log, answers, "--events", events) == 0
    assert f"0 reviews added, {len(rows)} were in the log already" in capsys.readouterr().out

    joined = {each.decision.decision_id: each for each in histories(log, events)}
    reviewed = joined[rows[0]["id"]]
    event = next(event for event in reviewed.events if event.kind == "review")
    assert event.blind is True
    assert event.labels == truths[rows[0]["id"]]

    out = tmp_path / "reviewed.jsonl"
    assert _run("records", log, "--events", events, "--to", out) == 0
    record = {row["decision_id"]: row for row in map(json.loads, out.read_text().splitlines())}[rows[0]["id"]]
    logged = planned(reviewed)
    assert logged is not None
    assert record["weight"] == pytest.approx(1 / logged.details["probability"], rel=1e-5)
    assert record["label_source"] == "label-audit"
    assert record["blind"] is True
    assert set(record["labels"]) == {policy for policy, value in truths[rows[0]["id"]].items() if value}

    assert _run("evaluate", log, "--events", events, "--looks", 120, "--ranking", "probability") == 0
    printed = capsys.readouterr().out
    assert "the other" in printed
    assert " nan" not in printed
    assert _run("plan", log, "--events", events, "--to", tmp_path / "again.jsonl") == 2  # nothing waits


def test_looks_without_text_are_refused_before_anything_is_logged(tmp_path: Path) -> None:
    record, _ = _decision(np.random.default_rng(1), 0, 0, 1, False)
    with LogWriter(tmp_path / "log") as log:
        log.append(record)
    before = sorted((each.name, each.stat().st_size) for each in (tmp_path / "log").glob("0*"))
    assert _run("plan", tmp_path / "log", "--with-blocks", "--to", tmp_path / "items.jsonl") == 2
    assert before == sorted((each.name, each.stat().st_size) for each in (tmp_path / "log").glob("0*"))
    assert not (tmp_path / "items.jsonl").exists()


@pytest.mark.parametrize(
    "row",
    [
        {"decision_id": "nobody", "reviewer": "ann", "labels": []},
        {"reviewer": "", "labels": []},
        {"reviewer": "ann", "labels": ["no policy"]},
        {"reviewer": "ann", "labels": {"weapons": "perhaps"}},
        {"reviewer": "ann", "labels": [], "time": "yesterday"},
    ],
)
def test_bad_answers_stop_before_anything_is_written(
    filled: tuple[Path, dict[str, dict[str, bool]]], tmp_path: Path, row: dict[str, object]
) -> None:
    log, truths = filled
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"decision_id": next(iter(truths))} | row) + "\n")
    assert _run("answers", log, answers, "--events", tmp_path / "events") == 2
    assert not (tmp_path / "events").exists()


def test_the_coin_is_the_same_for_the_same_key_only(
    filled: tuple[Path, dict[str, dict[str, bool]]],
) -> None:
    found = histories(filled[0])
    first, again, other = (plan_day(found, QueueSettings(100), key) for key in (KEY, KEY, KEY[::-1]))
    assert (first.chosen == again.chosen).all()
    assert (first.chosen != other.chosen).any()
    assert all(each.decision != "block" for each in first.decisions)


def test_inclusion_probabilities_spend_the_looks_and_leave_nobody_out() -> None:
    random = np.random.default_rng(0)
    candidates = Candidates(random.beta(0.05, 2, (3000, 5)), np.ones(5), random.lognormal(0, 1, 3000))
    chances = inclusion_probabilities(candidates, QueueSettings(200))
    assert chances.sum() == pytest.approx(200, rel=0.05)
    assert chances.min() >= 0.1 * 200 / 3000
    assert chances[np.argsort(-candidates.harm())[:100]].min() > 0.9
    assert proportional(np.array([1.0, 1.0, 100.0]), 2.0).tolist() == [0.5, 0.5, 1.0]


def test_thompson_looks_more_at_a_policy_whose_probabilities_are_too_low() -> None:
    random = np.random.default_rng(1)
    drawn = [thompson_offsets(np.array([10.0, 10.0]), np.array([40.0, 10.0]), random) for _ in range(200)]
    mean = np.mean(drawn, 0)
    assert mean[0] > 0.7
    assert abs(mean[1]) < 0.2


def test_another_queue_is_valued_within_its_interval() -> None:
    random = np.random.default_rng(2)
    inside = 0
    for _ in range(40):
        chances = random.beta(0.1, 2, 2000)
        truth = random.random(2000) < chances
        own = inclusion_probabilities(
            Candidates(chances[:, None], np.ones(1), np.ones(2000)), QueueSettings(300)
        )
        target = np.full(2000, 0.1)
        looked = poisson_sample(own, random)
        value = queue_value(truth.astype(float), looked, own, target, chances)
        assert value.dr_interval is not None
        # 2,000 merchants are a draw themselves: what the other queue finds in the long run is 0.1 x their share.
        inside += value.dr_interval[0] <= 0.1 * (0.1 / 2.1) <= value.dr_interval[1]
    assert inside >= 32


def test_a_queue_that_never_looked_there_cannot_say() -> None:
    logged = np.repeat([0.5, 0.0], 500)
    looked = np.arange(1000) < 250
    with pytest.raises(NoSupport, match="never looked"):
        queue_value(np.zeros(1000), looked, logged, np.full(1000, 0.2), np.zeros(1000))


def test_off_policy_values_a_policy_of_choices_and_refuses_wrong_probabilities() -> None:
    random = np.random.default_rng(3)
    action = random.integers(0, 4, 20_000)
    reward = (random.random(20_000) < np.array([0.1, 0.2, 0.3, 0.4])[action]).astype(float)
    target = np.array([0.1, 0.1, 0.1, 0.7])[action]
    value = off_policy(reward, np.full(20_000, 0.25), target)
    assert value.ips_interval[0] < 0.34 < value.ips_interval[1]
    assert value.anytime[0] < 0.34 < value.anytime[1]
    assert value.mean_weight == pytest.approx(1, abs=0.05)
    with pytest.raises(NoSupport, match="mean weight"):
        off_policy(reward, np.full(20_000, 0.1), target)
