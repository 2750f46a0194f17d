"""ONNX Runtime with default options, windows one by one, as in a first script."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from engines import OnnxEngine
from harness import Job, Pass, run_bulk


def load(job: Job, _: ExitStack) -> Mapping[str, Pass]:
    """A pass over the windows, one run each."""
    engine = OnnxEngine(job.folder, graph=job.options["graph"], window_tokens=job.window_tokens)
    return {"one by one": partial(engine.classify, job.flat, budget=0)}


if __name__ == "__main__":
    sys.exit(run_bulk(load))
