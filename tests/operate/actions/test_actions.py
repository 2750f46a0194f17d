"""Action tables: the first rule that matches, never more than review without a certificate, tried before they are used."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from merchantguard.cli import main
from merchantguard.core.errors import RecordError, SettingsError
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.operate.actions import ActionTable, Case, CaseFinding, appeal, load_table, try_table
from merchantguard.operate.log import LogWriter, histories
from merchantguard.serve.decision_record import DecisionEvent, DecisionRecord, LoggedFinding, now, uuid7

TODAY = date(2026, 12, 1)


def case(
    decision: str = "block",
    severity: str = "prohibited",
    certificate: str | None = "policy",
    policy: str = "weapons",
    **given: Any,
) -> Case:
    return Case(decision, (CaseFinding(policy, severity, 0.97, decision, certificate),), **given)


@pytest.mark.parametrize(
    ("given", "action", "rule"),
    [
        (case(), "block", "certified and severe"),
        (case(severity="restricted", policy="alcohol"), "restrict", "certified"),
        (case(certificate=None), "review", "to a reviewer"),
        (case("review", policy="alcohol", exposure=100.0), "request_information", "licensed trades"),
        (case("review", policy="alcohol", exposure=20_000.0), "review", "to a reviewer"),
        (case("review", history=("request_information",)), "review", "asked before"),
        (Case("clear", ()), "none", "supported"),
        (Case("review", (), warnings=("language",)), "review", "to a reviewer"),
        (Case("clear", (), warnings=("thin page",)), "review", "not readable"),
    ],
)
def test_the_shipped_table(given: Case, action: str, rule: str) -> None:
    outcome = load_table().decide(given)
    assert (outcome.action, outcome.rule, outcome.version) == (action, rule, "2026-12-01")


def test_the_shipped_table_names_policies_of_the_shipped_taxonomy() -> None:
    known = {policy.id for policy in load_taxonomy().policies}
    assert {policy for rule in load_table().rules for policy in rule.when.policy or ()} <= known
    severities = {severity for rule in load_table().rules for severity in rule.when.severity or ()}
    assert severities <= {policy.severity for policy in load_taxonomy().policies}


def test_the_strongest_action_over_all_findings_counts() -> None:
    findings = (
        CaseFinding("alcohol", "restricted", 0.6, "review", None),
        CaseFinding("weapons", "prohibited", 0.99, "block", "pooled"),
    )
    assert load_table().decide(Case("block", findings, exposure=5.0)).action == "block"


def table(rules: list[dict[str, Any]], **given: Any) -> dict[str, Any]:
    return {"version": "1", "rules": rules, **given}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table([{"name": "a", "action": "block"}]), "without a certificate"),
        (
            table(
                [
                    {
                        "name": "a",
                        "when": {"decision": ["review"], "certificate": ["policy"]},
                        "action": "restrict",
                    }
                ]
            ),
            "last rule",
        ),
        (
            table(
                [
                    {
                        "name": "a",
                        "when": {"decision": ["block"], "certificate": ["none"]},
                        "action": "block",
                    },
                    {"name": "b", "action": "none"},
                ]
            ),
            "without a certificate",
        ),
        (table([{"name": "a", "action": "none"}] * 2), "same name"),
        (table([{"name": "a", "action": "explode"}]), "rules.0.action"),
        (table([{"name": "a", "when": {"colour": 1}, "action": "none"}]), "colour"),
        (
            table(
                [{"name": "a", "action": "none"}],
                allow=[{"merchant_id": "m", "policies": ["x"], "owner": "me"}],
            ),
            "allow.0.until",
        ),
        ({"rules": []}, "version"),
        ("nothing", "table"),
    ],
)
def test_a_wrong_table_is_refused_with_its_field(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(json.dumps(content))
    with pytest.raises(SettingsError, match=message):
        load_table(path)


def test_an_allowed_merchant_is_watched_until_the_day_passes_and_for_its_policies_only() -> None:
    entry = {"merchant_id": "m1", "policies": ["alcohol"], "until": "2026-12-01", "owner": "jane"}
    rules = [
        {"name": "look", "when": {"decision": ["review", "block"]}, "action": "review"},
        {"name": "rest", "action": "none"},
    ]
    allowing = ActionTable.model_validate(table(rules, allow=[entry]))
    alcohol = CaseFinding("alcohol", "restricted", 0.9, "review", None)
    weapons = CaseFinding("weapons", "prohibited", 0.9, "review", None)
    assert allowing.decide(Case("review", (alcohol,), merchant_id="m1"), TODAY).rule == "allow-list"
    assert allowing.decide(Case("review", (alcohol,), merchant_id="m1"), date(2026, 12, 2)).rule == "look"
    assert allowing.decide(Case("review", (alcohol, weapons), merchant_id="m1"), TODAY).rule == "look"
    assert allowing.decide(Case("review", (alcohol,), merchant_id="m2"), TODAY).rule == "look"


@pytest.fixture
def decisions(
    make_record: Callable[..., DecisionRecord], tmp_path: Path
) -> tuple[Path, list[DecisionRecord]]:
    block = LoggedFinding("weapons", 0.99, "block", "policy")
    records = [
        make_record(
            decision="block",
            findings=(block,),
            action="review",
            record_id="r1",
            thresholds={"weapons": (0.5, 0.9), "alcohol": (0.5, None)},
        ),
        make_record(decision="clear", findings=(), action="none", record_id="r2"),
    ]
    with LogWriter(tmp_path / "log") as log:
        [log.append(record) for record in records]
    return tmp_path / "log", records


def test_a_table_is_tried_on_a_log(
    decisions: tuple[Path, list[DecisionRecord]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, records = decisions
    trial = try_table(load_table(), records, {"weapons": "prohibited"})
    assert trial.changes == {("review", "block"): 1}
    assert trial.examples["review", "block"][0].decision == records[0]
    assert main(["actions", "show"]) == 0
    (tmp_path / "table.yaml").write_text(capsys.readouterr().out)
    assert main(["actions", "test", str(tmp_path / "table.yaml"), str(log)]) == 0
    shown = capsys.readouterr().out
    assert "2 decisions" in shown
    assert "review -> block: 1" in shown
    assert (
        main(
            ["actions", "test", str(tmp_path / "table.yaml"), str(log), "--old", str(tmp_path / "table.yaml")]
        )
        == 0
    )
    assert "->" not in capsys.readouterr().out


def test_an_appeal_needs_another_reviewer_and_becomes_a_label(
    decisions: tuple[Path, list[DecisionRecord]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, (blocked, _) = decisions
    with LogWriter(folder) as log:
        log.append(
            DecisionEvent(
                uuid7(), blocked.decision_id, now(), "review", "label-audit", "ann", True, {"weapons": True}
            )
        )
    with LogWriter(folder) as log:
        history = histories(folder)[0]
        with pytest.raises(RecordError, match="another reviewer"):
            appeal(log, history, reviewer="ann", labels={"weapons": False})
        with pytest.raises(RecordError, match="no answer for weapons"):
            appeal(log, history, reviewer="bob", labels={})
    command = [
        "actions",
        "appeal",
        str(folder),
        blocked.decision_id,
        "--reviewer",
        "bob",
        "--not-violated",
        "weapons",
    ]
    assert main([*command, "--reason", "replica for films"]) == 0
    details = json.loads(capsys.readouterr().out)["details"]
    assert details == {"outcome": "reversed", "action": "restore", "reason": "replica for films"}
    assert main(["actions", "labels", str(folder), "--to", str(tmp_path / "labels.jsonl")]) == 0
    [row] = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert (row["id"], row["labels"], row["unknown"], row["label_source"]) == (
        "r1",
        [],
        ["alcohol"],
        "appeal",
    )


def test_an_appeal_is_heard_while_a_service_writes_the_decisions(
    decisions: tuple[Path, list[DecisionRecord]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, (blocked, _) = decisions
    appeals, labels = tmp_path / "appeals", tmp_path / "labels.jsonl"
    command = ["actions", "appeal", str(folder), blocked.decision_id, "--not-violated", "weapons"]
    with LogWriter(folder):  # as a running service
        assert main([*command, "--reviewer", "bob"]) == 2
        assert "another process writes this log" in capsys.readouterr().err
        assert main([*command, "--reviewer", "bob", "--to", str(appeals)]) == 0
        assert main([*command, "--reviewer", "bob", "--to", str(appeals)]) == 2
        assert "another reviewer" in capsys.readouterr().err
        assert main(["actions", "labels", str(folder), str(appeals), "--to", str(labels)]) == 0
        capsys.readouterr()
        logs = [str(appeals), str(folder)]  # the decision comes after its event
        assert main(["log", "show", *logs, "--decision-id", blocked.decision_id]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["type"], each["decision_id"]) for each in shown] == [
        ("decision", blocked.decision_id),
        ("event", blocked.decision_id),
    ]
    assert json.loads(labels.read_text())["annotator"] == "bob"
    assert histories(folder)[0].events == ()
    assert len(histories(folder, appeals, appeals)[0].events) == 1


def test_an_appeal_needs_a_decision_of_the_log(
    decisions: tuple[Path, list[DecisionRecord]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["actions", "appeal", str(decisions[0]), uuid7(), "--reviewer", "bob"]
    assert main([*command, "--to", str(tmp_path / "appeals")]) == 2
    assert "no decision" in capsys.readouterr().err
    assert not (tmp_path / "appeals").exists()
