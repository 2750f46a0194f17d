"""Early warnings from a whole log, and what its review queue found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .early_warnings import Drift, Expected, drift, expected_figures, label_shift
from .ledger import Entry


@dataclass(frozen=True, slots=True)
class Warnings:
    """What needs no labels: of each policy, and of what comes in.

    :param shift: the share of violating merchants that the probabilities are stated for, and the share now by label shift; None
        where the stated share is not known.
    """

    expected: dict[str, Expected]
    shift: tuple[float, float] | None
    drifts: tuple[Drift, ...]


def log_warnings(entries: Sequence[Entry], current: Sequence[Entry], prevalence: float | None) -> Warnings:
    """All early warnings.

    :param current: the entries of the process in force; their last quarter says what comes in now.
    :param prevalence: what the bundle's probabilities are stated for.
    """
    expected = {}
    for policy in sorted({policy for entry in current for policy in entry.record.thresholds}):
        chances = np.array([entry.record.probabilities.get(policy, 0.0) for entry in current])
        expected[policy] = expected_figures(chances, current[-1].record.thresholds[policy][1])
    last = current[-max(len(current) // 4, 1) :]
    some = [entry.record.any_violation for entry in last if entry.record.any_violation is not None]
    shift = None
    if prevalence is not None and some:
        shift = prevalence, label_shift(np.array(some, float), prevalence)
    return Warnings(expected, shift, tuple(_drifts(entries)))


def _drifts(entries: Sequence[Entry]) -> list[Drift]:
    days = [entry.record.time[:10] for entry in entries]
    ids = [entry.record.decision_id for entry in entries]
    watched: list[tuple[str, list[float]]] = [
        ("windows", [float(entry.record.windows) for entry in entries]),
        ("text length", [float(entry.record.text_length) for entry in entries]),
        ("truncated", [float(entry.record.truncated) for entry in entries]),
    ]
    for warning in sorted({name for entry in entries for name in entry.record.warnings}):
        watched.append((f"warning: {warning}", [float(warning in e.record.warnings) for e in entries]))
    for policy in sorted({f.policy for entry in entries for f in entry.record.findings}):
        rate = [float(any(f.policy == policy for f in e.record.findings)) for e in entries]
        watched.append((f"flagged: {policy}", rate))
    alpha = 0.01 / max(len(watched), 1)
    found = [drift(name, days, np.array(values), ids, alpha=alpha) for name, values in watched]
    return [each for each in found if each is not None]


def queue_yield(entries: Sequence[Entry]) -> dict[str, Any]:
    """What the review queue found: looks, violations, and looks by the reason logged with them."""
    chosen = [entry for entry in entries if "queue" in entry.record.selected or _queued(entry)]
    looks = [entry for entry in chosen if any(event.kind == "review" for event in entry.events)]
    hits = [
        entry
        for entry in looks
        if any(value for event in entry.events if event.kind == "review" for value in event.labels.values())
    ]
    return {"chosen": len(chosen), "looks": len(looks), "violations": len(hits)}


def _queued(entry: Entry) -> bool:
    return any(
        event.kind == "action" and event.source == "queue" and event.details.get("chosen") is True
        for event in entry.events
    )
