"""All figures of a log: what the page shows, `monitor watch` exports, and `--json` prints."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .early_warnings import Drift, Expected, drift, expected_figures, label_shift
from .eprocess import (
    NO_NOISE,
    Noise,
    PrecisionEvidence,
    confidence_sequence,
    e_bh,
    precision_evidence,
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
from .ledger import Entry, audited_blocks, stratum_number

Floats = NDArray[np.float64]

ALL = "all blocks"
_POINTS = 200
_MOST_MISSING = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """What is claimed of a log.

    :param target: precision that a block must have.
    :param alpha: error of certificates and alarms, each, over all policies.
    """

    target: float = 0.95
    alpha: float = 0.05
    noise: Noise = NO_NOISE


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

    :param certified: whether "at least the target" is proven; not while an alarm holds.
    :param alarm: whether "below the target" is proven; `alarm_time` is the decision whose audit was enough.
    """

    scope: str
    process: str
    audits: int
    right: int
    unknown: int
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
class Warnings:
    """What needs no labels: of each policy, and of what comes in."""

    expected: dict[str, Expected]
    shift: dict[str, tuple[float, float]]
    drifts: tuple[Drift, ...]


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
        _warnings(entries, current),
        queue_yield(entries),
    )


# -- precision ------------------------------------------------------------------------------------------


def _precision(entries: Sequence[Entry], process: str, settings: Settings) -> list[Precision]:
    """Of all blocks together, and of each policy that blocks; policies share alpha by e-BH."""
    policies = sorted({policy for entry in entries for policy in entry.blocks})
    audits = {scope: audited_blocks(entries, scope) for scope in (None, *policies)}
    evidence = {
        scope: precision_evidence([right for _, right in found], settings.target, settings.noise)
        for scope, found in audits.items()
    }
    chosen = {
        kind: set(e_bh({policy: evidence[policy].wealth(kind) for policy in policies}, settings.alpha))
        for kind in ("certificate", "alarm")
    }
    for kind, names in chosen.items():
        if evidence[None].first(kind, settings.alpha) is not None:
            names.add(ALL)
    return [
        _series(scope or ALL, process, audits[scope], evidence[scope], chosen, settings)
        for scope in (None, *policies)
    ]


def _series(
    scope: str,
    process: str,
    found: Sequence[tuple[Entry, bool | None]],
    evidence: PrecisionEvidence,
    chosen: dict[str, set[str]],
    settings: Settings,
) -> Precision:
    known = [(entry, right) for entry, right in found if right is not None]
    total = sum(bool(right) for _, right in known)
    low, high = confidence_sequence(total, len(known) - total, settings.alpha)
    alarm_at = evidence.first("alarm", settings.alpha)
    alarm = scope in chosen["alarm"]
    return Precision(
        scope=scope,
        process=process,
        audits=len(found),
        right=total,
        unknown=len(found) - len(known),
        low=low,
        high=high,
        certified=scope in chosen["certificate"] and not alarm,
        certified_at=evidence.first("certificate", settings.alpha),
        alarm=alarm,
        alarm_at=alarm_at,
        alarm_time=found[alarm_at - 1][0].record.time if alarm and alarm_at else None,
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
    try:
        sample = _sample(entries)
    except NoSupport as error:
        return [Figure(name, ALL, None, str(error)) for name in ("prevalence", "recall")]
    some = np.array([entry.record.any_violation or 0.0 for entry in entries])
    truth = np.array([any(entry.labels.values()) for entry in entries])
    flagged = np.array([entry.record.decision != "clear" for entry in entries])
    result = _figures(ALL, sample, truth, some, flagged, settings)
    for policy in policies:
        truth = np.array([entry.labels.get(policy, False) for entry in entries])
        chances = np.array([entry.record.probabilities.get(policy, 0.0) for entry in entries])
        flagged = np.array([any(f.policy == policy for f in entry.record.findings) for entry in entries])
        result += _figures(policy, sample, truth, chances, flagged, settings)
    return result


def _sample(entries: Sequence[Entry]) -> Sample:
    """:raises NoSupport: if more than a tenth of the audits have no answer."""
    audited = [entry for entry in entries if entry.audited]
    missing = sum(not entry.labels for entry in audited)
    if audited and missing > _MOST_MISSING * len(audited):
        raise NoSupport(
            f"{missing} of {len(audited)} audits have no answer; figures from the rest would mislead"
        )
    sample = Sample(
        np.array([entry.audit for entry in entries]),
        np.array([bool(entry.labels) for entry in entries]),
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
    if policy == ALL:
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


def calibration_wealth(probabilities: Floats, labels: NDArray[np.bool_]) -> float:
    """Wealth, after all audits, against "each label holds with its stated probability".

    The coin depends on the decision alone, so that among the audited the stated probabilities are right if they are right at
    all, without weights. Bets that the logits are off by 0.7 or 1.5 either way, or too extreme or too cautious, in equal parts.
    """
    p = np.clip(np.asarray(probabilities, float), 1e-6, 1 - 1e-6)
    y = np.asarray(labels, bool)
    logit = np.log(p) - np.log1p(-p)
    bets = [logit + shift for shift in (-1.5, -0.7, 0.7, 1.5)] + [logit * slope for slope in (0.6, 1.6)]
    log_wealth = []
    for bet in bets:
        q = 1 / (1 + np.exp(-np.clip(bet, -30, 30)))
        steps = np.where(y, np.log(q / p), np.log1p(-q) - np.log1p(-p))
        log_wealth.append(np.cumsum(steps))
    best = np.logaddexp.reduce(log_wealth, axis=0) - np.log(len(bets))
    return float(np.exp(min(best.max(initial=0.0), 600.0)))


# -- early warnings -------------------------------------------------------------------------------------


def _warnings(entries: Sequence[Entry], current: Sequence[Entry]) -> Warnings:
    policies = sorted({policy for entry in current for policy in entry.record.thresholds})
    expected, shift = {}, {}
    for policy in policies:
        chances = np.array([entry.record.probabilities.get(policy, 0.0) for entry in current])
        expected[policy] = expected_figures(chances, current[-1].record.thresholds[policy][1])
        first = chances[: max(len(chances) // 4, 1)]
        stated = float(np.clip(first.mean(), 1e-6, 1 - 1e-6))
        shift[policy] = stated, label_shift(chances[-len(first) :], stated)
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
    return any(event.kind == "action" and event.source == "queue" for event in entry.events)
