"""The peak of the machine at this moment: a square matrix product in float32 and bfloat16 on all cores, GFLOP/s."""

import sys
import time
from typing import Any

from harness import Job, run_peer

SIZE = 2048


def measure(job: Job) -> dict[str, Any]:
    """The best of `repeats` products in each precision, which other processes disturbed least."""
    import torch

    torch.set_num_threads(job.threads)
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = (torch.randn(SIZE, SIZE).to(dtype) for _ in range(2))
        left @ right
        seconds = []
        for _ in range(job.repeats):
            started = time.perf_counter()
            left @ right
            seconds.append(time.perf_counter() - started)
        found[name] = 2 * SIZE**3 / min(seconds) / 1e9
    return {"gflops": found}


if __name__ == "__main__":
    sys.exit(run_peer(measure))
