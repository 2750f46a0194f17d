"""A soak of the micro-batcher under an open-loop load, with hostile inputs mixed in.

    python -m serving.soak quickstart/bundle --minutes 15 --rates 0.8,3 --hostile 0.1 --out soak.json

First the capacity is measured: texts per second of `assess_many`, evidence on, over texts drawn from the data (by
default the package's own corpus). Then, for each rate, texts arrive at that multiple of the capacity, at random (Poisson)
times, whether or not earlier ones are answered; a few threads submit them, so that cleaning ten megabytes on one of them
does not delay the arrivals. Latency is from arrival to answer, "late" from arrival to submission.

A share of the arrivals is hostile. Inputs that cost as much as dozens of ordinary texts (ten megabytes, 100,000 nested
tags) are twenty times rarer than the others, or they would be all of the load.

Checked, with exit status 1 and the reason if it does not hold: every request ends once; texts with a known answer get the
one that `assess` gave before the load, within 1e-6 (in float32; in bfloat16 the rounding of a product depends on the
shape of the batch, and with it the third decimal); there are no errors but TypeError for what is not a text, QueueFull
and DeadlineExceeded; the batcher's figures equal those of its callers, and nothing stays in its queue.

Memory is the process's resident set, read once a second. Its slope is that of a straight line through the lowest values
of each minute in the second half of a phase, without the first minute: memory that is kept, not used for a moment.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from guard import guarded

from merchantguard.core.arguments import positive_number, share
from merchantguard.core.errors import RecordError
from merchantguard.core.files import write_json
from merchantguard.data.records.readers import read_records
from merchantguard.data.shipped import corpus_paths
from merchantguard.serve import MicroBatcher, Scorer
from merchantguard.serve.online.stats import Stats

from .soak_load import Client, Input, Ledger, Memory, draw_inputs, resident_megabytes

TOLERANCE = 1e-6
DEADLINE = 10.0
QUEUE_TOKENS = 200_000


@dataclass(frozen=True, slots=True)
class Load:
    """Arrivals per second, for some seconds.

    :param deadline: seconds after which a caller no longer waits.
    :param patience: seconds after the last arrival within which every request must end.
    :param tolerance: how far a known probability may move.
    """

    rate: float
    seconds: float
    deadline: float = DEADLINE
    queue_tokens: int = QUEUE_TOKENS
    clients: int = 4
    patience: float = 120.0
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True)
class Phase:
    """The results of one rate."""

    load: Load
    ledger: Ledger
    stats: Stats
    memory: Memory = field(repr=False)

    def faults(self) -> list[str]:
        """The checks that do not hold."""
        ledger, counted = self.ledger, self.stats.outcomes
        lost, doubled = ledger.ended(times=0), ledger.ended(times=2)
        checks = [
            (lost > 0, f"{lost} of {ledger.requests} requests never ended"),
            (doubled > 0, f"{doubled} of {ledger.requests} requests ended more than once"),
            (bool(ledger.unexpected), f"unexpected errors: {dict(ledger.unexpected.most_common(3))}"),
            (
                not ledger.largest_difference <= self.load.tolerance,
                f"a known answer moved by {ledger.largest_difference:.3g}",
            ),
            (
                sum(counted.values()) != self.stats.submitted,
                f"{self.stats.submitted} requests reached the batcher, {sum(counted.values())} ended there",
            ),
            (self.stats.queued_tokens != 0, f"{self.stats.queued_tokens} tokens stayed in the queue"),
        ]
        own = {name: ledger.outcomes[name] for name in counted}
        checks.append((own != dict(counted), f"the batcher counts {dict(counted)}, its callers {own}"))
        return [fault for failed, fault in checks if failed]

    def figures(self) -> dict[str, Any]:
        """Everything measured: seconds, shares and megabytes."""
        ledger = self.ledger
        return {
            "rate": self.load.rate,
            "seconds": self.load.seconds,
            "requests": ledger.requests,
            **{name: ledger.outcomes[name] for name in (*self.stats.outcomes, "refused")},
            "latency_p50": _quantile(ledger.latencies, 0.5),
            "latency_p99": _quantile(ledger.latencies, 0.99),
            "late_p99": _quantile(ledger.late, 0.99),
            "largest_difference": ledger.largest_difference,
            "megabytes": self.memory.megabytes[-1] if self.memory.megabytes else resident_megabytes(),
            "megabytes_an_hour": self.memory.slope(self.load.seconds),
            "megabytes_lowest": [round(megabytes) for _, megabytes in self.memory.lowest()],
        }


def run_phase(
    scorer: Scorer,
    inputs: Sequence[Input],
    load: Load,
    *,
    seed: int = 0,
    batcher_of: Callable[..., MicroBatcher] = MicroBatcher,
) -> Phase:
    """Let inputs arrive at a new micro-batcher for as long as the load says, and wait for the last answer."""
    batcher = batcher_of(scorer, queue_tokens=load.queue_tokens)
    ledger, memory = Ledger(), Memory()
    client = Client(batcher, ledger, deadline=load.deadline)
    draw = random.Random(seed)
    weights = [each.weight for each in inputs]
    with memory.sampled(), ThreadPoolExecutor(load.clients) as clients:
        for due in arrivals(load, draw):
            time.sleep(max(0.0, due - time.monotonic()))
            clients.submit(client.send, draw.choices(inputs, weights)[0], due)
    settled = ledger.settle(load.patience)
    stats = _emptied(batcher)
    # A batcher that lost a request may not end either: its threads are then left until the process ends.
    if settled:
        batcher.close()
    return Phase(load, ledger, stats, memory)


def _emptied(batcher: MicroBatcher) -> Stats:
    """The figures once the workers have dropped what expired, which they do a moment after they report it."""
    for _ in range(50):
        if batcher.stats().queued_tokens == 0:
            break
        time.sleep(0.1)
    return batcher.stats()


def arrivals(load: Load, draw: random.Random) -> Iterator[float]:
    """Times of a Poisson process, on the clock of `time.monotonic`."""
    start, after = time.monotonic(), draw.expovariate(load.rate)
    while after < load.seconds:
        yield start + after
        after += draw.expovariate(load.rate)


def measure_capacity(scorer: Scorer, texts: Sequence[str]) -> float:
    """Texts per second of a bulk pass, after a short one to warm up."""
    list(scorer.assess_many(texts[:8], remember=0))
    start = time.perf_counter()
    list(scorer.assess_many(texts, remember=0))
    return len(texts) / (time.perf_counter() - start)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of phases."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "load": lambda row: f"{row['times_capacity']:g} x",
        "arrivals/s": lambda row: f"{row['rate']:.1f}",
        "minutes": lambda row: f"{row['seconds'] / 60:.1f}",
        "requests": lambda row: f"{row['requests']:,}",
        "completed": lambda row: f"{row['completed']:,}",
        "rejected": lambda row: f"{row['rejected'] / row['requests']:.1%}",
        "expired": lambda row: f"{row['expired'] / row['requests']:.1%}",
        "not a text": lambda row: f"{row['refused'] / row['requests']:.1%}",
        "p50 s": lambda row: f"{row['latency_p50']:.3f}",
        "p99 s": lambda row: f"{row['latency_p99']:.3f}",
        "late p99 s": lambda row: f"{row['late_p99']:.3f}",
        "difference": lambda row: f"{row['largest_difference']:.1e}",
        "MB": lambda row: f"{row['megabytes']:.0f}",
        "MB/hour": lambda row: f"{row['megabytes_an_hour']:+.0f}".replace("+nan", "too short"),
    }
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(show(row) for show in columns.values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """The row with None for what could not be measured: JSON has no NaN."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else math.nan


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=positive_number, default=15.0, help="in total, for all rates (15)")
    parser.add_argument("--rates", type=_rates, default=[0.8, 3.0], help="times the capacity (0.8,3)")
    parser.add_argument("--data", type=Path, nargs="+", help="records whose texts are sent (the corpus)")
    parser.add_argument("--texts", type=int, default=200, help="how many of them (200)")
    parser.add_argument("--hostile", type=share, default=0.1, help="share of hostile inputs (0.1)")
    parser.add_argument("--deadline", type=positive_number, default=DEADLINE, help=f"seconds ({DEADLINE:g})")
    parser.add_argument("--queue-tokens", type=int, default=QUEUE_TOKENS, help=f"({QUEUE_TOKENS})")
    parser.add_argument("--variant", default="plain", help="one in float32, or raise --tolerance (plain)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="of known probabilities (1e-6)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file for all figures")
    return parser.parse_args()


def _rates(text: str) -> list[float]:
    return [positive_number(part) for part in text.split(",")]


def choose_texts(files: Sequence[Path], *, count: int, seed: int) -> list[str]:
    """Texts of up to `count` records, drawn at random.

    :raises RecordError: if there are none, or a file has a bad row.
    """
    texts = [record.text for record in read_records(files, None, strict=True).records]
    if not texts:
        raise RecordError("--data: no records were found")
    return random.Random(seed).sample(texts, min(count, len(texts)))


def main() -> int:
    """Measure the capacity, run every phase, print the table; 1 if a check does not hold."""
    args = parse_arguments()
    texts = choose_texts(args.data or corpus_paths(), count=args.texts, seed=args.seed)
    scorer = Scorer.load(args.bundle, variant=args.variant)
    capacity = measure_capacity(scorer, texts)
    print(f"capacity: {capacity:.1f} texts/s in bulk, variant {scorer.variant}\n", flush=True)
    inputs = draw_inputs(scorer, texts, args.hostile)
    rows: list[dict[str, Any]] = []
    seconds = args.minutes * 60 / len(args.rates)
    for number, times in enumerate(args.rates):
        load = Load(times * capacity, seconds, args.deadline, args.queue_tokens, tolerance=args.tolerance)
        phase = run_phase(scorer, inputs, load, seed=args.seed + number)
        rows.append({"times_capacity": times, **phase.figures(), "faults": phase.faults()})
    print(table(rows))
    if args.out:
        figures = {"capacity": capacity, "variant": scorer.variant, "phases": [_finite(row) for row in rows]}
        write_json(args.out, figures)
    faults = [f"{row['times_capacity']:g} x: {fault}" for row in rows for fault in row["faults"]]
    print("\n".join(["", *faults] if faults else ["", "all checks hold"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
