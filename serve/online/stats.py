"""Live figures of a micro-batcher, in the text format that Prometheus reads."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)

_HELP = {
    "queue_requests": "Requests that wait now.",
    "queue_tokens": "Tokens of the requests that wait now.",
    "submitted_total": "Requests submitted.",
    "batches_total": "Runs of the model.",
    "requests_total": "Requests by how they ended.",
    "wait_seconds": "From submission to the first run of the model.",
    "latency_seconds": "From submission to the assessment.",
    "batch_fill": "Share of a batch's tokens that are not padding.",
}

OUTCOMES = ("completed", "failed", "cancelled", "expired", "rejected")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values up to each of `bounds`, not cumulative, then of those above the last; and the sum of all."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    def quantile(self, share: float) -> float:
        """The bound below which `share` of the values lie; infinity if that is above the last, 0 without values."""
        wanted = share * sum(self.counts)
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            if seen >= wanted:
                return bound if seen else 0.0
        return float("inf")


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of a micro-batcher.

    :param queued_requests: requests that wait now.
    :param queued_tokens: their tokens.
    :param outcomes: requests by how they ended.
    :param wait_seconds: from submission to the first run of the model.
    :param latency_seconds: from submission to the assessment.
    :param batch_fill: share of a batch's tokens that are not padding.
    """

    queued_requests: int
    queued_tokens: int
    submitted: int
    outcomes: Mapping[str, int]
    batches: int
    wait_seconds: Histogram
    latency_seconds: Histogram
    batch_fill: Histogram

    def prometheus(self, prefix: str = "merchantguard") -> str:
        """The text exposition format, version 0.0.4."""
        lines = [
            *_metric(prefix, "queue_requests", "gauge", self.queued_requests),
            *_metric(prefix, "queue_tokens", "gauge", self.queued_tokens),
            *_metric(prefix, "submitted_total", "counter", self.submitted),
            *_metric(prefix, "batches_total", "counter", self.batches),
            *_header(prefix, "requests_total", "counter"),
        ]
        for outcome, count in self.outcomes.items():
            lines.append(f'{prefix}_requests_total{{outcome="{outcome}"}} {count}')
        for name in ("wait_seconds", "latency_seconds", "batch_fill"):
            lines += _histogram(prefix, name, getattr(self, name))
        return "\n".join(lines) + "\n"


class Recorder:
    """Collects the figures; its caller holds the batcher's lock."""

    def __init__(self) -> None:
        self.submitted = self.batches = 0
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.wait, self.latency = _Counts(_SECONDS), _Counts(_SECONDS)
        self.fill = _Counts(_SHARES)

    def snapshot(self, *, queued_requests: int, queued_tokens: int) -> Stats:
        """The figures so far."""
        return Stats(
            queued_requests=queued_requests,
            queued_tokens=queued_tokens,
            submitted=self.submitted,
            outcomes=dict(self.outcomes),
            batches=self.batches,
            wait_seconds=self.wait.histogram(),
            latency_seconds=self.latency.histogram(),
            batch_fill=self.fill.histogram(),
        )


class _Counts:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def histogram(self) -> Histogram:
        return Histogram(self._bounds, tuple(self._counts), self._total)


def _header(prefix: str, name: str, kind: str) -> list[str]:
    return [f"# HELP {prefix}_{name} {_HELP[name]}", f"# TYPE {prefix}_{name} {kind}"]


def _metric(prefix: str, name: str, kind: str, value: int) -> list[str]:
    return [*_header(prefix, name, kind), f"{prefix}_{name} {value}"]


def _histogram(prefix: str, metric: str, histogram: Histogram) -> list[str]:
    name = f"{prefix}_{metric}"
    lines = _header(prefix, metric, "histogram")
    seen = 0
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        seen += count
        lines.append(f'{name}_bucket{{le="{bound}"}} {seen}')
    return [*lines, f"{name}_sum {histogram.total:.9g}", f"{name}_count {seen}"]
