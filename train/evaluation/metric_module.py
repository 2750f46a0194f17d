"""The project's metrics as a module of the `evaluate` library, which needs no download.

`evaluate` gathers batches in an Arrow file on disk, so predictions need not fit in memory while they
are made, and its hub metrics would have to be fetched: this subclass brings its own arithmetic.
"""

from typing import Any

import datasets
import evaluate
import numpy as np

from .metrics import decide, macro_average_precision


class PolicyMetrics(evaluate.Metric):
    """Macro average precision and micro F1 over batches of (references, predictions, known).

    Each batch holds per record K labels (0 or 1), K probabilities and K booleans (False: not judged).
    Give `cache_dir` a folder that may be written, `experiment_id` where several processes share it.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Ranking and decisions of a multi-label classifier with unknown cells.",
            citation="",
            inputs_description="references, predictions and known: per record one value a policy.",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Sequence(datasets.Value("float32")),
                    "known": datasets.Sequence(datasets.Value("bool")),
                }
            ),
        )

    def _compute(
        self, *, predictions: Any, references: Any, known: Any, threshold: float = 0.5
    ) -> dict[str, float]:
        scores, labels = np.asarray(predictions, dtype=np.float32), np.asarray(references)
        mask = np.asarray(known, dtype=bool)
        return {
            "macro_average_precision": macro_average_precision(scores, labels, mask),
            "micro_f1": decide(scores, labels, mask, threshold).micro_f1,
        }
