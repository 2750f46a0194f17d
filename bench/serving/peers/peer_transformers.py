"""transformers' pipeline as in its documentation: one by one, and in batches in the order of the texts."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack

from harness import Job, Logits, Pass, run_bulk


def load(job: Job, _: ExitStack) -> Mapping[str, Pass]:
    """A pass per batch size."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(job.folder), device="cpu")
    names = classify.model.config.id2label

    def passed(batch_size: int) -> Pass:
        def one() -> Logits:
            answers = classify(
                job.flat,
                batch_size=batch_size,
                truncation=True,
                max_length=job.window_tokens,
                top_k=None,
                function_to_apply="none",
            )
            scores = [{each["label"]: each["score"] for each in answer} for answer in answers]
            return [[row[names[number]] for number in range(len(names))] for row in scores]

        return one

    return {f"batches of {size}": passed(size) for size in (1, 32)}


if __name__ == "__main__":
    sys.exit(run_bulk(load))
