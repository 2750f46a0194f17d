"""A day's looks: which decisions wait, with which probability each is looked at, and the events that log it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.errors import SettingsError
from ...serve.decision_record import DecisionEvent, DecisionRecord, now, uuid7
from ..log import History
from ..monitor.ledger import majority
from ..monitor.sample import unit_interval
from .ranking import Candidates, Floats, QueueSettings, inclusion_probabilities, thompson_offsets

QUEUE = "queue"
"""The source of the events that log a plan, and the name of this selection."""


@dataclass(frozen=True, slots=True)
class Stakes:
    """What a violation costs: weights of policies (1 where a policy is not named), and exposure of merchants (1 likewise)."""

    severity: Mapping[str, float]
    exposure: Mapping[str, float]

    def of(self, record: DecisionRecord) -> float:
        """The exposure of a decision, by its merchant, else its record."""
        known = (name for name in (record.merchant_id, record.record_id) if name in self.exposure)
        return next((self.exposure[name] for name in known if name is not None), 1.0)


NO_STAKES = Stakes({}, {})


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The decisions of a day with their inclusion probabilities, and which the coin chose.

    :param offsets: drawn for Thompson sampling, per policy; empty without.
    """

    day: str
    decisions: tuple[DecisionRecord, ...]
    probability: Floats
    chosen: NDArray[np.bool_]
    harm: Floats
    offsets: Mapping[str, float]
    blind: bool

    def events(self) -> Iterator[DecisionEvent]:
        """An event for every decision, those not chosen too: estimates need both."""
        time = now()
        for record, probability, chosen in zip(self.decisions, self.probability, self.chosen, strict=True):
            yield DecisionEvent(
                uuid7(),
                record.decision_id,
                time,
                "action",
                QUEUE,
                f"queue plan {self.day}",
                details={
                    "probability": float(probability),
                    "chosen": bool(chosen),
                    "day": self.day,
                    "blind": self.blind,
                },
            )


def planned(history: History) -> DecisionEvent | None:
    """The event with which a plan logged a decision."""
    return next((e for e in history.events if e.kind == "action" and e.source == QUEUE), None)


def reviews(history: History) -> list[DecisionEvent]:
    """The reviews of a decision."""
    return [event for event in history.events if event.kind == "review"]


def policies_of(decisions: Sequence[DecisionRecord]) -> tuple[str, ...]:
    """All policies with a probability, sorted."""
    return tuple(sorted({policy for each in decisions for policy in each.probabilities}))


def candidates_of(decisions: Sequence[DecisionRecord], stakes: Stakes) -> Candidates:
    """Decisions as the ranking takes them; a policy without a probability counts as not violated."""
    policies = policies_of(decisions)
    return Candidates(
        np.array([[each.probabilities.get(name, 0.0) for name in policies] for each in decisions]).reshape(
            len(decisions), len(policies)
        ),
        np.array([stakes.severity.get(name, 1.0) for name in policies]),
        np.array([stakes.of(each) for each in decisions]),
    )


def plan_day(
    found: Sequence[History],
    settings: QueueSettings,
    key: bytes,
    *,
    day: str | None = None,
    stakes: Stakes = NO_STAKES,
    thompson: bool = False,
    with_blocks: bool = False,
    blind: bool = True,
) -> Plan:
    """Plan the looks of a day: at what nobody has looked at and no plan has tossed a coin for.

    The coin of each decision is keyed, so that nobody can predict it and a plan can be checked later.

    :param day: ISO date; the log's last by default.
    :param thompson: shift each policy's logits by a draw from what earlier looks say of its calibration.
    :param with_blocks: also decisions that block; those are the audit's by default.
    :raises SettingsError: if no decision of the day waits.
    """
    day = day or max((each.decision.time[:10] for each in found), default="")
    waiting = [
        each.decision
        for each in found
        if each.decision.time.startswith(day or "-")
        and (with_blocks or each.decision.decision != "block")
        and planned(each) is None
        and not reviews(each)
    ]
    if not waiting:
        raise SettingsError(
            f"no decision of {day or 'this log'} waits for a look: all are planned or reviewed"
        )
    candidates = candidates_of(waiting, stakes)
    policies = policies_of(waiting)
    drawn = _offsets(found, policies, key, day) if thompson else None
    probability = inclusion_probabilities(candidates, settings, drawn)
    chosen = np.array(
        [
            unit_interval(key, QUEUE, each.decision_id) < p
            for each, p in zip(waiting, probability, strict=True)
        ]
    )
    offsets = {} if drawn is None else dict(zip(policies, map(float, drawn), strict=True))
    return Plan(day, tuple(waiting), probability, chosen, candidates.harm(drawn), offsets, blind)


def _offsets(found: Sequence[History], policies: Sequence[str], key: bytes, day: str) -> Floats:
    """Draws from what the looks of earlier plans say, weighted by their inclusion probabilities."""
    expected, violated = dict.fromkeys(policies, 0.0), dict.fromkeys(policies, 0.0)
    for each in found:
        event = planned(each)
        if event is None or not event.details.get("chosen"):
            continue
        labels = labels_of(each)
        for policy, label in labels.items():
            if policy in expected and policy in each.decision.probabilities:
                weight = 1.0 / float(event.details["probability"])
                expected[policy] += weight * each.decision.probabilities[policy]
                violated[policy] += weight * label
    seed = hashlib.sha256(key + f"thompson {day}".encode()).digest()[:8]
    generator = np.random.default_rng(int.from_bytes(seed, "big"))
    return thompson_offsets(
        np.array([expected[name] for name in policies]),
        np.array([violated[name] for name in policies]),
        generator,
    )


def labels_of(history: History) -> dict[str, bool]:
    """The labels of a decision by the majority of its reviewers."""
    return majority(reviews(history))
