"""The common part of all peers: read a job, measure, write the result. Standard library only.

A peer is a script, run in a process (and where it must be, an environment) of its own:

    PYTHON peer_NAME.py MODEL_FOLDER INPUT.json OUTPUT.json

`bulk` takes passes over all texts and times each; online peers measure by `closed_loop.py`.
"""

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
_LIBRARIES = (
    *("torch", "transformers", "tokenizers", "onnxruntime", "openvino", "optimum-onnx", "infinity_emb"),
    *("litserve", "mosec", "merchantguard"),
)
_KEPT_DIGITS = 5

Logits = Sequence[Sequence[float]]
Pass = Callable[[], Logits]
"""One pass over all windows (or texts): their logits, in the order of the job."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to measure. `windows` are the texts' windows: clean text that a tokenizer cuts at `window_tokens`."""

    folder: Path
    raw: list[str]
    windows: list[list[str]]
    window_tokens: int
    threads: int
    repeats: int
    clients: int
    seconds: float
    options: dict[str, Any]

    @property
    def flat(self) -> list[str]:
        """The windows of all texts in one list."""
        return [window for windows in self.windows for window in windows]


def read_job(folder: Path, path: Path) -> Job:
    """Read an INPUT.json."""
    return Job(folder=folder, **json.loads(path.read_text(encoding="utf-8")))


def run_peer(measure: Callable[[Job], dict[str, Any]]) -> int:
    """The `main` of a peer: measure the job named on the command line and write the result."""
    folder, source, target = (Path(argument) for argument in sys.argv[1:4])
    result = measure(read_job(folder, source))
    result["versions"] = _versions()
    target.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
    return 0


def run_bulk(load: Callable[[Job, ExitStack], Mapping[str, Pass]]) -> int:
    """The `main` of a bulk peer; `load` imports and loads, and returns a pass for each setting."""

    def measure(job: Job) -> dict[str, Any]:
        with ExitStack() as stack:
            passes = load(job, stack)
            found: dict[str, Any] = {"load_seconds": time.perf_counter() - STARTED, "rss_mb": rss_mb()}
            found["settings"] = [time_passes(name, one, job.repeats) for name, one in passes.items()]
        return found | {"peak_mb": peak_mb()}

    return run_peer(measure)


def time_passes(setting: str, one: Pass, repeats: int) -> dict[str, Any]:
    """A whole pass to warm up, then `repeats` passes, each timed; the logits are those of the first."""
    logits = [[round(float(value), _KEPT_DIGITS) for value in row] for row in one()]
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        one()
        seconds.append(time.perf_counter() - started)
    return {"setting": setting, "seconds": seconds, "logits": logits}


def batches_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Row numbers, longest first, in batches of at most `budget` tokens, padding included; with 0 one by one."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def log_odds(probability: float) -> float:
    """The logit of a probability, for peers that give only probabilities; never infinite."""
    inside = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(inside / (1 - inside))


def rss_mb(pid: int | str = "self") -> float:
    """Resident memory of a process now, in MB."""
    return _status_mb(pid, "VmRSS:")


def peak_mb(pid: int | str = "self") -> float:
    """Most resident memory of a process so far, in MB; as `baselines.py`, by VmHWM where there is one."""
    return _status_mb(pid, "VmHWM:")


def _status_mb(pid: int | str, field: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return float(status.split(field)[1].split()[0]) / 1024
    except (OSError, IndexError):
        # Not Linux: only the peak of this process is known; a process that has ended has none.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if pid == "self" else 0.0


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
