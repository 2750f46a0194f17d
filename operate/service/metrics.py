"""Figures of the service for Prometheus."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from ...serve.online import stats as batcher_stats

if TYPE_CHECKING:
    from .model_host import ModelHost

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counts requests and decisions; the batcher's own figures are read when they are asked for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "merchantguard_http_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "merchantguard_http_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._decisions = Counter(
            "merchantguard_decisions",
            "Decisions by decision, bundle and variant.",
            ["decision", "bundle", "variant"],
            registry=self.registry,
        )
        self._item_errors = Counter(
            "merchantguard_item_errors",
            "Items that got an error of their own, by type.",
            ["type"],
            registry=self.registry,
        )

    def watch(self, host: "ModelHost") -> None:
        """Also give the figures of the batcher in use."""
        self.registry.register(_BatcherFigures(host))  # type: ignore[arg-type]

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def decision(self, decision: str, bundle: str, variant: str) -> None:
        """Count a decision."""
        self._decisions.labels(decision, bundle, variant).inc()

    def item_error(self, kind: str) -> None:
        """Count an item's error."""
        self._item_errors.labels(kind).inc()

    def text(self) -> bytes:
        """The text exposition format."""
        return bytes(generate_latest(self.registry))


class _BatcherFigures:
    """The batcher's figures; they start again at zero with every exchange of the bundle, which Prometheus takes for a restart."""

    def __init__(self, host: "ModelHost") -> None:
        self._host = host

    def collect(self) -> Iterable[Metric]:
        """The metrics now."""
        current = self._host.current
        figures = current.batcher.stats()
        labels = [current.label, current.digest]
        bundle = GaugeMetricFamily(
            "merchantguard_bundle_info", "The bundle in use.", labels=["bundle", "digest"]
        )
        bundle.add_metric(labels, 1)
        yield bundle
        yield GaugeMetricFamily(
            "merchantguard_queue_requests", "Texts that wait.", value=figures.queued_requests
        )
        yield GaugeMetricFamily(
            "merchantguard_queue_tokens", "Tokens that wait.", value=figures.queued_tokens
        )
        yield CounterMetricFamily("merchantguard_batches", "Runs of the model.", value=figures.batches)
        yield CounterMetricFamily(
            "merchantguard_bundle_swaps", "Exchanges of the bundle.", value=self._host.swaps
        )
        yield CounterMetricFamily(
            "merchantguard_bundle_refused", "Bundles refused.", value=self._host.refused
        )
        outcomes = CounterMetricFamily("merchantguard_texts", "Texts by how they ended.", labels=["outcome"])
        for outcome, count in figures.outcomes.items():
            outcomes.add_metric([outcome], count)
        yield outcomes
        yield _histogram(
            "merchantguard_wait_seconds", "From submission to the first run.", figures.wait_seconds
        )
        yield _histogram(
            "merchantguard_latency_seconds", "From submission to assessment.", figures.latency_seconds
        )
        yield _histogram(
            "merchantguard_batch_fill", "Share of a batch that is no padding.", figures.batch_fill
        )


def _histogram(name: str, text: str, histogram: batcher_stats.Histogram) -> HistogramMetricFamily:
    seen, buckets = 0, []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        seen += count
        buckets.append((bound, seen))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
