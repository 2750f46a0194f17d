"""Carefully written torch: windows sorted by length, batches by token budget, float32 or bfloat16."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from engines import TorchEngine
from harness import Job, Pass, run_bulk


def load(job: Job, _: ExitStack) -> Mapping[str, Pass]:
    """A pass per token budget."""
    engine = TorchEngine(
        job.folder,
        precision=job.options["precision"],
        window_tokens=job.window_tokens,
        threads=job.threads,
    )
    return {
        f"{budget} tokens": partial(engine.classify, job.flat, budget=budget) for budget in (512, 1024, 4096)
    }


if __name__ == "__main__":
    sys.exit(run_bulk(load))
