"""infinity-emb: its asynchronous engine in this process, all windows at once in bulk, a text per call online."""

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from closed_loop import closed_loop, numbered
from harness import STARTED, Job, Logits, Pass, log_odds, peak_mb, rss_mb, run_bulk, run_peer


def make_engine(job: Job) -> Any:
    """The engine on a CPU with its own defaults, except those that need optimum or download code."""
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    return AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=str(job.folder),
            engine="torch",
            device="cpu",
            dtype=job.options["precision"],
            bettertransformer=False,
            model_warmup=False,
            trust_remote_code=False,
        )
    )


def load(job: Job, stack: ExitStack) -> Mapping[str, Pass]:
    """A pass that hands in all windows; the engine sorts and batches them itself."""
    loop = stack.enter_context(asyncio.Runner())
    engine = make_engine(job)
    loop.run(engine.astart())
    stack.callback(lambda: loop.run(engine.astop()))
    names = [f"LABEL_{number}" for number in range(job.options["labels"])]

    def one() -> Logits:
        answers, _ = loop.run(engine.classify(sentences=job.flat))
        scores = [{each["label"]: each["score"] for each in answer} for answer in answers]
        return [[log_odds(row[name]) for name in names] for row in scores]

    return {"classify": one}


def measure_online(job: Job) -> dict[str, Any]:
    """The closed loop against the engine of this process, with no HTTP between them."""

    async def run() -> dict[str, Any]:
        engine = make_engine(job)
        async with engine:
            loaded = {"load_seconds": time.perf_counter() - STARTED, "rss_mb": rss_mb()}

            async def ask(_: int, number: int) -> None:
                await engine.classify(sentences=numbered(job.windows[number % len(job.windows)], number))

            found = await closed_loop(ask, clients=job.clients, seconds=job.seconds, repeats=job.repeats)
        return loaded | {"settings": [{"setting": "in process"} | found], "peak_mb": peak_mb()}

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(run_peer(measure_online) if "online" in sys.argv[4:] else run_bulk(load))
