"""optimum-onnx: the class that replaces the torch model, batches of 32 as in its documentation, also sorted."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from harness import Job, Logits, Pass, run_bulk

BATCH = 32


def load(job: Job, _: ExitStack) -> Mapping[str, Pass]:
    """A pass in the order of the texts and one sorted by the length of the windows."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.folder)
    model = ORTModelForSequenceClassification.from_pretrained(job.folder, file_name="model.onnx")
    windows = job.flat

    def one(order: list[int]) -> Logits:
        found: list[list[float]] = [[] for _ in windows]
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            inputs = tokenizer(
                [windows[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=job.window_tokens,
                return_tensors="pt",
            )
            for row, logits in zip(rows, model(**inputs).logits.tolist(), strict=True):
                found[row] = logits
        return found

    rows = list(range(len(windows)))
    by_length = sorted(rows, key=lambda row: len(windows[row]))
    return {f"batches of {BATCH}": partial(one, rows), f"batches of {BATCH}, sorted": partial(one, by_length)}


if __name__ == "__main__":
    sys.exit(run_bulk(load))
