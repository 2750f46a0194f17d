"""All figures of a log: what the page shows, `monitor watch` exports, and `--json` prints."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .eprocess import (
    NO_NOISE,
    Noise,
    PrecisionEvidence,
    calibration_wealth,
    confidence_sequence,
    e_bh,
    precision_evidence,
    proven,
)  # fmt: skip
from .estimates import (
    Estimate,
    NoSupport,
    Sample,
    betting_mean,
    doubly_robust,
    hajek,
    ratio,
    responding,
    stratified_bounds,
    stratified_recall,
)  # fmt: skip
from .ledger import Entry, audited_blocks, evidence_of, stratum_number
from .log_warnings import Warnings, log_warnings, queue_yield

Floats = NDArray[np.float64]

ALL = "all blocks"
ALL_DECISIONS = "any policy"
_POINTS = 200
_MOST_MISSING = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """What is claimed of a log.

    :param target: precision that a block must have.
    :param alpha: error of certificates and alarms, each, over all policies.
    :param prevalence: share of violating merchants that the bundle's probabilities are stated for; None: no label shift.
    """

    target: float = 0.95
    alpha: float = 0.05
    noise: Noise = NO_NOISE
    prevalence: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """Precision and its confidence sequence after an audit."""

    audit: int
    time: str
    precision: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Precision:
    """The precision of blocks under one process.

    :param unknown: audits without a label for this; `overdue` of them were never answered and count as errors for the certificate.
    :param certified: whether "at least the target" is proven; not while an alarm holds.
    :param alarm: whether "below the target" is proven; `alarm_at` is the audit whose evidence was enough
        at the policy's own share of alpha (None where only e-BH over all policies names it), `alarm_time` its decision.
    """

    scope: str
    process: str
    audits: int
    right: int
    unknown: int
    overdue: int
    low: float
    high: float
    certified: bool
    certified_at: int | None
    alarm: bool
    alarm_at: int | None
    alarm_time: str | None
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate by its name, or why it is refused."""

    name: str
    policy: str
    estimate: Estimate | None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything the monitor says about a log."""

    settings: Settings
    decisions: int
    since: str
    until: str
    process: str
    counts: dict[str, int]
    audited: int
    overdue: int
    precision: tuple[Precision, ...]
    estimates: tuple[Figure, ...]
    calibration: tuple[tuple[str, float, bool], ...]
    warnings: Warnings
    queue: dict[str, Any]

    @property
    def alarms(self) -> tuple[Precision, ...]:
        """Precision alarms of the process in force."""
        return tuple(each for each in self.precision if each.alarm and each.process == self.process)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def figures(entries: Sequence[Entry], settings: Settings | None = None) -> Figures:
    """All figures.

    :param entries: of `ledger`, at least one.
    :raises NoSupport: if there is no decision.
    """
    settings = settings or Settings()
    if not entries:
        raise NoSupport("the log has no decision in this time")
    processes = list(dict.fromkeys(entry.process for entry in entries))
    precision = [
        each
        for process in processes
        for each in _precision([entry for entry in entries if entry.process == process], process, settings)
    ]
    current = [entry for entry in entries if entry.process == processes[-1]]
    return Figures(
        settings,
        len(entries),
        entries[0].record.time,
        entries[-1].record.time,
        processes[-1],
        dict(Counter(entry.stratum for entry in entries)),
        sum(entry.audited for entry in entries),
        sum(entry.overdue for entry in entries),
        tuple(precision),
        tuple(_estimates(current, settings)),
        tuple(_calibration(current, settings)),
        log_warnings(entries, current, settings.prevalence),
        queue_yield(entries),
    )


# -- precision ------------------------------------------------------------------------------------------


def _precision(entries: Sequence[Entry], process: str, settings: Settings) -> list[Precision]:
    """Of all blocks together, at alpha, and of each policy that blocks: these share another alpha (`proven`)."""
    policies = sorted({policy for entry in entries for policy in entry.blocks})
    audits = {scope: audited_blocks(entries, scope) for scope in (None, *policies)}
    evidence = {
        scope: precision_evidence(evidence_of(found), settings.target, settings.noise)
        for scope, found in audits.items()
    }
    parts = {policy: evidence[policy] for policy in policies}
    chosen = {kind: proven(parts, kind, settings.alpha) for kind in ("certificate", "alarm")}
    for kind, names in chosen.items():
        if evidence[None].first(kind, settings.alpha) is not None:
            names.add(ALL)
    levels = {None: settings.alpha} | dict.fromkeys(policies, settings.alpha / max(len(policies), 1))
    return [
        _series(scope or ALL, process, audits[scope], evidence[scope], chosen, levels[scope], settings)
        for scope in (None, *policies)
    ]


def _series(
    scope: str,
    process: str,
    found: Sequence[tuple[Entry, bool | None]],
    evidence: PrecisionEvidence,
    chosen: dict[str, set[str]],
    level: float,
    settings: Settings,
) -> Precision:
    known = [(entry, right) for entry, right in found if right is not None]
    counted = [entry for entry, right in found if right is not None or entry.overdue]
    total = sum(bool(right) for _, right in known)
    low, high = confidence_sequence(total, len(known) - total, settings.alpha)
    alarm_at = evidence.first("alarm", level)
    alarm = scope in chosen["alarm"]
    return Precision(
        scope=scope,
        process=process,
        audits=len(found),
        right=total,
        unknown=len(found) - len(known),
        overdue=sum(entry.overdue for entry, _ in found),
        low=low,
        high=high,
        certified=scope in chosen["certificate"] and not alarm,
        certified_at=evidence.first("certificate", level),
        alarm=alarm,
        alarm_at=alarm_at,
        alarm_time=counted[alarm_at - 1].record.time if alarm and alarm_at else None,
        points=_points(known, settings.alpha),
    )


def _points(known: Sequence[tuple[Entry, bool | None]], alpha: float) -> tuple[Point, ...]:
    if not known:
        return ()
    shown = np.unique(np.linspace(1, len(known), min(_POINTS, len(known))).astype(int))
    hits = np.cumsum([bool(right) for _, right in known])
    points = []
    for n in map(int, shown):
        right = int(hits[n - 1])
        low, high = confidence_sequence(right, n - right, alpha)
        points.append(Point(n, known[n - 1][0].record.time, right / n, low, high))
    return tuple(points)


# -- recall, prevalence, calibration --------------------------------------------------------------------


def _due(entries: Sequence[Entry]) -> list[Entry]:
    """Decisions up to the first pending audit: a population whose audits have all been answered or are overdue."""
    pending = next((k for k, entry in enumerate(entries) if entry.pending), len(entries))
    return list(entries[:pending])


def _estimates(current: Sequence[Entry], settings: Settings) -> list[Figure]:
    entries = _due(current)
    policies = sorted({policy for entry in entries for policy in entry.record.thresholds})
    some = np.array([entry.record.any_violation or 0.0 for entry in entries])
    flagged = np.array([entry.record.decision != "clear" for entry in entries])
    result = _scope(entries, None, some, flagged, settings)
    for policy in policies:
        chances = np.array([entry.record.probabilities.get(policy, 0.0) for entry in entries])
        flagged = np.array([any(f.policy == policy for f in entry.record.findings) for entry in entries])
        result += _scope(entries, policy, chances, flagged, settings)
    return result


def _scope(
    entries: Sequence[Entry],
    policy: str | None,
    chances: Floats,
    flagged: NDArray[np.bool_],
    settings: Settings,
) -> list[Figure]:
    """The figures of a policy (None: any) from the audits that say whether it is violated."""
    labels = [entry.violates(policy) if entry.audited else None for entry in entries]
    try:
        sample = _sample(entries, np.array([label is not None for label in labels], bool))
    except NoSupport as error:
        return [Figure(name, policy or ALL_DECISIONS, None, str(error)) for name in ("prevalence", "recall")]
    truth = np.array([label is True for label in labels])
    return _figures(policy or ALL_DECISIONS, sample, truth, chances, flagged, settings)


def _sample(entries: Sequence[Entry], labelled: NDArray[np.bool_]) -> Sample:
    """:raises NoSupport: if more than a tenth of the audits have no label for what is asked."""
    audited = np.array([entry.audited for entry in entries], bool)
    missing = int((audited & ~labelled).sum())
    if missing > _MOST_MISSING * audited.sum():
        raise NoSupport(
            f"{missing} of {audited.sum()} audits have no label; figures from the rest would mislead"
        )
    sample = Sample(
        np.array([entry.audit for entry in entries]),
        labelled,
        np.array([stratum_number(entry) for entry in entries]),
    )
    if missing:
        sample.check()
        sample = responding(sample)
    return sample


def _figures(
    policy: str,
    sample: Sample,
    truth: NDArray[np.bool_],
    chances: Floats,
    flagged: NDArray[np.bool_],
    settings: Settings,
) -> list[Figure]:
    values, alpha = truth.astype(float), settings.alpha
    known = np.stack([chances * flagged, chances], 1)
    makers: list[tuple[str, Callable[[], Estimate]]] = [
        ("prevalence", lambda: doubly_robust(sample, values, chances, alpha)),
        ("prevalence, exact", lambda: stratified_bounds(sample, truth, alpha)),
        ("recall", lambda: ratio(sample, values * flagged, values, alpha, known=known)),
        ("recall, exact", lambda: stratified_recall(sample, truth, flagged, alpha)),
    ]
    if policy == ALL_DECISIONS:
        makers += [
            ("prevalence, Hajek", lambda: hajek(sample, values, alpha)),
            ("prevalence, betting", lambda: betting_mean(sample, values, chances, alpha)),
        ]
    return [_figure(name, policy, make) for name, make in makers]


def _figure(name: str, policy: str, make: Callable[[], Estimate]) -> Figure:
    try:
        return Figure(name, policy, make())
    except NoSupport as error:
        return Figure(name, policy, None, str(error))


def _calibration(current: Sequence[Entry], settings: Settings) -> list[tuple[str, float, bool]]:
    """Per policy the wealth against "its probabilities are right", and whether e-BH rejects that."""
    entries = [entry for entry in _due(current) if entry.labels and entry.audit > 0]
    wealth = {}
    for policy in sorted({policy for entry in entries for policy in entry.record.probabilities}):
        pairs = [
            (entry.record.probabilities[policy], entry.labels[policy])
            for entry in entries
            if policy in entry.labels and policy in entry.record.probabilities
        ]
        if pairs:
            wealth[policy] = calibration_wealth(*map(np.array, zip(*pairs, strict=True)))
    rejected = e_bh(wealth, settings.alpha)
    return [(policy, value, policy in rejected) for policy, value in wealth.items()]
