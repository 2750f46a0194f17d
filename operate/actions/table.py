"""Action tables: what is done about a merchant, by the first rule that matches its assessment."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ...core.errors import SettingsError
from ...serve.assessment import Assessment
from ...serve.bundle import BundlePolicy
from ...serve.decision_record import DecisionRecord

Action = Literal["none", "monitor", "request_information", "restrict", "review", "block"]
STRONGEST_FIRST: tuple[Action, ...] = (
    "block",
    "restrict",
    "review",
    "request_information",
    "monitor",
    "none",
)
_AUTOMATIC = ("block", "restrict")
"""Actions that nobody looks at first: only for certified findings."""


class Condition(BaseModel):
    """When a rule matches; what is not given matches everything."""

    model_config = ConfigDict(extra="forbid")
    decision: list[Literal["clear", "review", "block"]] | None = None
    severity: list[str] | None = None
    certificate: list[Literal["policy", "pooled", "none"]] | None = None
    policy: list[str] | None = Field(default=None, description="policy ids, * and ? as in file names")
    probability_at_least: float | None = Field(default=None, ge=0.0, le=1.0)
    exposure_at_least: float | None = None
    exposure_below: float | None = None
    history_has: list[str] | None = Field(
        default=None, description="an earlier action with one of these names"
    )
    history_at_least: int | None = Field(default=None, ge=0, description="so many earlier actions")
    warning: list[str] | None = None

    def matches(self, case: "Case", finding: "CaseFinding | None") -> bool:
        """Whether a case, seen by one of its findings, meets every condition that is given."""
        exposure = case.exposure or 0.0
        checks = (
            self.decision is None or (finding.decision if finding else case.decision) in self.decision,
            self.severity is None or (finding is not None and finding.severity in self.severity),
            self.certificate is None
            or (finding is not None and (finding.certificate or "none") in self.certificate),
            self.policy is None
            or (
                finding is not None and any(fnmatch.fnmatchcase(finding.policy, each) for each in self.policy)
            ),
            self.probability_at_least is None
            or (finding is not None and finding.probability >= self.probability_at_least),
            self.exposure_at_least is None or exposure >= self.exposure_at_least,
            self.exposure_below is None or exposure < self.exposure_below,
            self.history_has is None or any(each in self.history_has for each in case.history),
            self.history_at_least is None or len(case.history) >= self.history_at_least,
            self.warning is None or any(each in self.warning for each in case.warnings),
        )
        return all(checks)


class Rule(BaseModel):
    """A rule: its name, its condition, and what is done."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1)]
    when: Condition = Condition()
    action: Action
    documents: list[str] = []


class Allowed(BaseModel):
    """A merchant that a rule would hit and that somebody answers for, until a day."""

    model_config = ConfigDict(extra="forbid")
    merchant_id: str
    policies: list[str]
    until: date
    owner: Annotated[str, Field(min_length=1)]
    reason: str = ""


class ActionTable(BaseModel):
    """A versioned table. Rules are tried in their order for every finding, and the strongest action counts."""

    model_config = ConfigDict(extra="forbid")
    version: Annotated[str, Field(min_length=1)]
    rules: Annotated[list[Rule], Field(min_length=1)]
    allow: list[Allowed] = []

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float | date) else value

    @field_validator("rules")
    @classmethod
    def _sound(cls, rules: list[Rule]) -> list[Rule]:
        names = [rule.name for rule in rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name")
        if rules[-1].when != Condition():
            raise ValueError("the last rule must have no conditions, so that every case gets an action")
        for rule in rules:
            if rule.action in _AUTOMATIC and not _certified(rule.when):
                raise ValueError(
                    f"rule {rule.name!r} would {rule.action} on findings without a certificate: give "
                    "certificate: [policy, pooled], and decision: [block]; what is not certified goes to review at most"
                )
        return rules

    def decide(self, case: "Case", today: date | None = None) -> "Outcome":
        """What is done about a case: over its findings the strongest action of the first rule that matches each."""
        today = today or date.today()
        findings: list[CaseFinding | None] = [
            each for each in case.findings if not self._is_allowed(case, each, today)
        ] or [None]
        if findings == [None] and case.findings:
            return Outcome("monitor", "allow-list", self.version)
        outcomes = [self._first(case, finding) for finding in findings]
        return min(outcomes, key=lambda outcome: STRONGEST_FIRST.index(outcome.action))

    def _first(self, case: "Case", finding: "CaseFinding | None") -> "Outcome":
        rule = next(rule for rule in self.rules if rule.when.matches(case, finding))
        return Outcome(rule.action, rule.name, self.version, tuple(rule.documents))

    def _is_allowed(self, case: "Case", finding: "CaseFinding", today: date) -> bool:
        return any(
            entry.merchant_id == case.merchant_id
            and entry.until >= today
            and finding.policy in entry.policies
            for entry in self.allow
        )


def _certified(condition: Condition) -> bool:
    return (
        condition.certificate is not None
        and "none" not in condition.certificate
        and condition.decision == ["block"]
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a table says: the action, the rule that said it, and the table's version."""

    action: Action
    rule: str
    version: str
    documents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseFinding:
    """A finding as rules see it."""

    policy: str
    severity: str
    probability: float
    decision: str
    certificate: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """What rules look at.

    :param exposure: money at risk, in the user's own unit.
    :param history: earlier actions, the last one at the end.
    """

    decision: str
    findings: tuple[CaseFinding, ...]
    warnings: tuple[str, ...] = ()
    merchant_id: str | None = None
    exposure: float | None = None
    history: tuple[str, ...] = field(default=())

    @classmethod
    def of(
        cls,
        assessment: Assessment,
        policies: Sequence[BundlePolicy],
        *,
        merchant_id: str | None = None,
        exposure: float | None = None,
        history: tuple[str, ...] = (),
    ) -> Self:
        """The case of an assessment by a bundle with these policies."""
        severity = {policy.id: policy.severity for policy in policies}
        findings = tuple(
            CaseFinding(
                each.policy, severity[each.policy], float(each.probability), each.decision, each.certificate
            )
            for each in assessment.findings
        )
        return cls(assessment.decision, findings, assessment.warnings, merchant_id, exposure, history)

    @classmethod
    def of_record(cls, record: DecisionRecord, severity: dict[str, str]) -> Self:
        """The case of a logged decision; exposure and history are not in the log."""
        findings = tuple(
            CaseFinding(
                each.policy,
                severity.get(each.policy, "unknown"),
                each.probability,
                each.decision,
                each.certificate,
            )
            for each in record.findings
        )
        return cls(record.decision, findings, record.warnings, record.merchant_id)


def load_table(path: Path | None = None) -> ActionTable:
    """Read an action table; without a path the shipped one.

    :raises SettingsError: naming every field that is wrong.
    """
    source = files(__package__) / "default.yaml" if path is None else path
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: cannot be read as an action table ({error})") from error
    try:
        return ActionTable.model_validate(content)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, each['loc'])) or 'table'}: {each['msg']}" for each in error.errors()]
        raise SettingsError(f"{source}: " + "; ".join(faults)) from error
