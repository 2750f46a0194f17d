"""The package itself: `Scorer.assess_many` over the raw texts, or its `MicroBatcher` with coroutines of one process.

It cleans, cuts and pools the texts, runs the n-gram branch and the mixture, and calibrates: more work than a peer does.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from closed_loop import closed_loop
from harness import STARTED, Job, Logits, Pass, log_odds, peak_mb, rss_mb, run_bulk, run_peer

if TYPE_CHECKING:
    from merchantguard.serve import Scorer


def load_scorer(job: Job) -> "Scorer":
    """The scorer of the variant that the job names, without evidence, which no peer gives."""
    from merchantguard.serve import EvidenceOptions, Scorer

    bundle, variant = job.options["bundle"], job.options["variant"]
    return Scorer.load(bundle, variant=variant, evidence=EvidenceOptions(spans=0))


def load(job: Job, _: ExitStack) -> Mapping[str, Pass]:
    """A pass over all texts at once."""
    scorer = load_scorer(job)

    def one() -> Logits:
        return [
            [log_odds(float(value)) for value in assessment.probabilities]
            for assessment in scorer.assess_many(job.raw)
        ]

    return {"assess_many": one}


def measure_online(job: Job) -> dict[str, Any]:
    """The closed loop against a micro-batcher of this process, with no HTTP between them."""
    from merchantguard.serve.online.microbatcher import MicroBatcher

    scorer = load_scorer(job)
    loaded = {"load_seconds": time.perf_counter() - STARTED, "rss_mb": rss_mb()}
    with MicroBatcher(scorer) as batcher:

        async def ask(_: int, number: int) -> None:
            await batcher.assess_async(f"{job.raw[number % len(job.raw)]} {number}")

        found = asyncio.run(closed_loop(ask, clients=job.clients, seconds=job.seconds, repeats=job.repeats))
    setting = {"setting": "in process"} | found
    return loaded | {"settings": [setting], "peak_mb": peak_mb()}


if __name__ == "__main__":
    sys.exit(run_peer(measure_online) if "online" in sys.argv[4:] else run_bulk(load))
