"""Trying a table on a log: what it would have done, before it is activated."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ...serve.decision_record import DecisionRecord
from .table import ActionTable, Case, Outcome


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that the new table treats otherwise."""

    decision: DecisionRecord
    before: str
    after: Outcome


@dataclass(slots=True)
class Trial:
    """Counts of actions before and under the new table, its rules' counts, and examples of every difference."""

    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[Difference]] = field(default_factory=dict)

    @property
    def decisions(self) -> int:
        """How many decisions were tried."""
        return self.before.total()


def try_table(
    table: ActionTable,
    records: Iterable[DecisionRecord],
    severity: Mapping[str, str],
    *,
    old: ActionTable | None = None,
    examples: int = 3,
) -> Trial:
    """What `table` does with logged decisions.

    :param severity: of each policy.
    :param old: the table to compare with; without it the action that was logged.
    :param examples: of each kind of difference.
    """
    trial = Trial()
    for record in records:
        case = Case.of_record(record, dict(severity))
        before = old.decide(case).action if old is not None else (record.action or "none")
        outcome = table.decide(case)
        trial.before[before] += 1
        trial.after[outcome.action] += 1
        trial.rules[outcome.rule] += 1
        if outcome.action != before:
            change = before, outcome.action
            trial.changes[change] += 1
            found = trial.examples.setdefault(change, [])
            if len(found) < examples:
                found.append(Difference(record, before, outcome))
    return trial
