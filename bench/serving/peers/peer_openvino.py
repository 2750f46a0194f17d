"""OpenVINO: one window after the other with its default settings, or its throughput hint with a queue of requests."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from harness import Job, Logits, Pass, batches_by_length, run_bulk


def load(job: Job, _: ExitStack) -> Mapping[str, Pass]:
    """One by one if the job sets no hint; with the throughput hint also in batches."""
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": job.options["precision"]}
    if job.options["throughput"]:
        hints["PERFORMANCE_HINT"] = "THROUGHPUT"
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(job.folder / "model.onnx"), "CPU", hints)
    if not job.options["throughput"]:
        return {"one by one": partial(_in_turn, job, compiled)}
    # As many requests as OpenVINO recommends. One queue for all passes: with a new one for each, deleting the compiled
    # model at the end never returned.
    queue = openvino.AsyncInferQueue(compiled)
    budgets = {"queue": 0, "queue, batches of 1024 tokens": 1024}
    return {name: partial(_queued, job, queue, budget) for name, budget in budgets.items()}


def _in_turn(job: Job, compiled: Any) -> Logits:
    rows = _encode(job)
    return [compiled(_inputs([row]))["logits"][0].tolist() for row in rows]


def _queued(job: Job, queue: Any, budget: int) -> Logits:
    rows = _encode(job)
    found: list[list[float]] = [[] for _ in rows]

    def keep(request: Any, batch: list[int]) -> None:
        for row, logits in zip(batch, request.get_tensor("logits").data.tolist(), strict=True):
            found[row] = logits

    queue.set_callback(keep)
    for batch in batches_by_length([len(row) for row in rows], budget):
        queue.start_async(_inputs([rows[row] for row in batch]), batch)
    queue.wait_all()
    return found


def _encode(job: Job) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(job.folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(job.window_tokens)
    return [encoding.ids for encoding in tokenizer.encode_batch(job.flat)]


def _inputs(rows: list[list[int]]) -> dict[str, Any]:
    import numpy as np

    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


if __name__ == "__main__":
    sys.exit(run_bulk(load))
