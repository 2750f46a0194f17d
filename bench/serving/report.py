"""From the peers' measurements to tables: medians, ratios against ours, the share of the machine's peak, agreement."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OURS = "ours"


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of one peer.

    :param result: the output of its script.
    :param gflops: the machine's peak just before, by precision.
    :param twin: the row whose logits this one's are compared with.
    :param texts: texts of a pass; `tokens` and `flops` likewise.
    """

    name: str
    precision: str
    twin: str | None
    result: Mapping[str, Any]
    gflops: Mapping[str, float]
    texts: int
    tokens: int
    flops: float

    @property
    def is_ours(self) -> bool:
        """Whether this is the package."""
        return self.name.startswith(OURS)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two sets of logits compared: the largest difference of a probability, the share of equal decisions at 0.5."""

    largest: float
    equal: float


def best_setting(result: Mapping[str, Any]) -> dict[str, Any]:
    """The setting of a peer with the most texts a second, by medians: each peer shows its best."""
    settings: list[dict[str, Any]] = result["settings"]
    return max(settings, key=lambda setting: statistics.median(rates(setting)))


def rates(setting: Mapping[str, Any]) -> list[float]:
    """The rate of a setting in each repeat: texts/s online, passes/s in bulk."""
    if "texts_per_second" in setting:
        return list(setting["texts_per_second"])
    return [1 / seconds for seconds in setting["seconds"]]


def agreement(logits: Sequence[Sequence[float]], twin: Sequence[Sequence[float]]) -> Agreement:
    """Compare the logits of the same windows, labels in the same order."""
    one, other = (_probabilities(each) for each in (logits, twin))
    if one.shape != other.shape:
        raise ValueError(f"logits of shape {one.shape} cannot be compared with {other.shape}")
    return Agreement(float(np.abs(one - other).max()), float(((one >= 0.5) == (other >= 0.5)).mean()))


def _probabilities(logits: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64))))


def figures(row: Row) -> dict[str, float]:
    """The medians of a bulk row's best setting: texts/s, tokens/s, GFLOP/s and the percentage of the peak.

    A precision whose peak is not measured, such as int8, is compared with the peak in float32.
    """
    passes = statistics.median(rates(best_setting(row.result)))
    gflops = row.flops * passes / 1e9
    return {
        "texts": row.texts * passes,
        "tokens": row.tokens * passes,
        "gflops": gflops,
        "of_peak": 100 * gflops / row.gflops.get(row.precision, row.gflops["fp32"]),
    }


def fastest_ours(speeds: Mapping[str, float], rows: Sequence[Row]) -> str | None:
    """The name of our fastest row; None without one."""
    own = [row.name for row in rows if row.is_ours]
    return max(own, key=lambda name: speeds[name], default=None)


def ratio(ours: float | None, its: float) -> str:
    """How many passes ours makes in the time of one of its passes, for a cell."""
    return "-" if ours is None else f"{ours / its:.2f}"


def bulk_table(rows: Sequence[Row]) -> str:
    """A markdown table of bulk peers, the fastest first."""
    known = {row.name: figures(row) for row in rows}
    first = fastest_ours({name: found["texts"] for name, found in known.items()}, rows)
    same = _fastest_of_precision(rows, known)
    by_name = {row.name: row for row in rows}
    lines = [
        "| peer | setting | texts/s | tokens/s | fastest ours / it | ours of its precision / it | GFLOP/s | of peak "
        "| load, s | loaded, MB | peak, MB | largest difference of a probability / equal decisions |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -known[row.name]["texts"]):
        found, best = known[row.name], best_setting(row.result)
        fair = same.get(row.precision)
        cells = [
            row.name,
            best["setting"],
            f"{found['texts']:.1f}",
            f"{found['tokens']:,.0f}",
            ratio(known[first]["texts"] if first else None, found["texts"]),
            ratio(fair, found["texts"]),
            f"{found['gflops']:.0f}",
            f"{found['of_peak']:.0f} %",
            *_costs(row.result),
            _agreement_cell(row, by_name.get(row.twin or "")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _fastest_of_precision(rows: Sequence[Row], known: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Our most texts a second in each precision."""
    found: dict[str, float] = {}
    for row in rows:
        if row.is_ours:
            found[row.precision] = max(found.get(row.precision, 0.0), known[row.name]["texts"])
    return found


def online_table(rows: Sequence[Row], *, clients: int) -> str:
    """A markdown table of servers and engines under a closed loop, in which clients / throughput is the mean latency."""
    speeds = {row.name: statistics.median(rates(best_setting(row.result))) for row in rows}
    first = fastest_ours(speeds, rows)
    lines = [
        f"| server | setting | texts/s | fastest ours / it | p50, ms | p99, ms | {clients} / throughput, ms "
        "| load, s | loaded, MB | peak, MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -speeds[row.name]):
        best, speed = best_setting(row.result), speeds[row.name]
        cells = [
            row.name,
            best["setting"],
            f"{speed:.1f}",
            ratio(speeds[first] if first else None, speed),
            f"{best['p50_ms']:.0f}",
            f"{best['p99_ms']:.0f}",
            f"{1000 * clients / speed:.0f}",
            *_costs(dict(row.result) | best),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _costs(result: Mapping[str, Any]) -> list[str]:
    return [f"{result['load_seconds']:.1f}", f"{result['rss_mb']:.0f}", f"{result['peak_mb']:.0f}"]


def _agreement_cell(row: Row, twin: Row | None) -> str:
    if twin is None:
        return "-"
    found = agreement(best_setting(row.result)["logits"], best_setting(twin.result)["logits"])
    return f"{found.largest:.2g} / {found.equal:.2%} (of {twin.name})"


def without_logits(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result to keep, without the logits of every window."""
    settings = [{k: v for k, v in each.items() if k != "logits"} for each in result["settings"]]
    return {**result, "settings": settings}
