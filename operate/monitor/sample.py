"""The audit sample: a keyed coin for each merchant and day, tossed when the decision is made and logged with its probability."""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...core.errors import SettingsError
from ...core.files import read_json, write_json
from ...serve.decision_record import DecisionRecord

AUDIT = "audit"
"""The name of this selection in decision records."""

Stratum = Literal["blocked", "review", "uncertain", "cleared"]
STRATA: tuple[Stratum, ...] = get_args(Stratum)
FLOOR = 0.001
"""Least probability: what is never looked at can never be estimated."""

_SHARES: Mapping[Stratum, float] = {"blocked": 0.35, "review": 0.20, "uncertain": 0.25, "cleared": 0.20}
_UNCERTAIN_FROM = 0.2


def stratum_of(record: DecisionRecord) -> Stratum:
    """The stratum of a decision: what was cleared counts as uncertain from a fifth of the limit on."""
    if record.decision == "block":
        return "blocked"
    if record.decision == "review":
        return "review"
    closest = max(
        (
            probability / record.thresholds[policy][0]
            for policy, probability in record.probabilities.items()
            if policy in record.thresholds and record.thresholds[policy][0] > 0
        ),
        default=0.0,
    )
    if record.any_violation is not None and record.any_review > 0:
        closest = max(closest, record.any_violation / record.any_review)
    return "uncertain" if closest >= _UNCERTAIN_FROM else "cleared"


def unit_interval(key: bytes, *parts: str) -> float:
    """A number in [0, 1) that nobody without the key can predict, the same for the same parts."""
    message = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


@dataclass(frozen=True, slots=True)
class AuditSample:
    """Chooses decisions for the audit; usable as a selection of the service.

    A merchant has one coin a day: sending a text again does not toss another.

    :param probabilities: of each stratum, at least `FLOOR`.
    :raises SettingsError: if a stratum is missing or its probability is out of range.
    """

    key: bytes
    probabilities: Mapping[str, float]

    def __post_init__(self) -> None:
        if len(self.key) < 16:
            raise SettingsError("the key of the audit sample needs at least 16 bytes, or it can be guessed")
        for stratum in STRATA:
            value = self.probabilities.get(stratum)
            if value is None or not FLOOR <= value <= 1.0:
                raise SettingsError(
                    f"audit probability of {stratum!r} is {value}; it must be between {FLOOR} and 1"
                )

    def __call__(self, record: DecisionRecord) -> tuple[float, bool]:
        """The probability of a decision, and whether it is chosen."""
        probability = self.probabilities[stratum_of(record)]
        who = record.merchant_id or record.record_id or record.text_hmac
        return probability, unit_interval(self.key, AUDIT, who, record.time[:10]) < probability


def plan_probabilities(counts: Mapping[str, float], budget: float) -> dict[str, float]:
    """Probabilities that spend about `budget` audits a day on decisions that come in such numbers a day.

    Each stratum has its share of the budget; what a small one cannot use goes to the others.

    :raises SettingsError: if the budget is not positive.
    """
    if not budget > 0:
        raise SettingsError(f"the budget is {budget}; give audits a day, such as 200/day")
    full: set[str] = set()
    plan: dict[str, float] = {}
    for _ in STRATA:
        left = budget - sum(counts.get(name, 0.0) for name in full)
        open_shares = {name: _SHARES[name] for name in STRATA if name not in full}
        total = sum(open_shares.values())
        plan = dict.fromkeys(full, 1.0)
        for name, share in open_shares.items():
            expected = counts.get(name, 0.0)
            plan[name] = 1.0 if expected == 0 else max(left, 0.0) * share / total / expected
        grown = {name for name in open_shares if plan[name] >= 1.0}
        if not grown:
            break
        full |= grown
    return {name: round(min(max(plan[name], FLOOR), 1.0), 6) for name in STRATA}


def daily_counts(records: Iterable[DecisionRecord]) -> dict[str, float]:
    """Decisions a day by stratum, over the days that have any."""
    counts: Counter[str] = Counter()
    days = set()
    for record in records:
        counts[stratum_of(record)] += 1
        days.add(record.time[:10])
    return {name: counts[name] / max(len(days), 1) for name in STRATA}


def parse_budget(text: str) -> float:
    """Audits a day from "200/day", "200", or "1400/week".

    :raises SettingsError: if it is none.
    """
    number, _, unit = text.partition("/")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    divisor = {"": 1, "day": 1, "week": 7}.get(unit.strip())
    if divisor is None or not 0 < value < 1e9:
        raise SettingsError(f"--budget {text!r}: give audits a day, such as 200/day, or 1400/week")
    return value / divisor


def write_plan(path: Path, probabilities: Mapping[str, float]) -> None:
    """Write a plan for `read_plan`."""
    write_json(path, {"selection": AUDIT, "probabilities": dict(probabilities)})


def read_plan(path: Path, key: bytes) -> AuditSample:
    """The audit sample of a plan's file.

    :raises SettingsError: if the file is no plan.
    """
    try:
        document: Any = read_json(path)
        probabilities = {str(k): float(v) for k, v in document["probabilities"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path}: is no plan of `merchantguard monitor sample` ({error})") from error
    return AuditSample(key, probabilities)
