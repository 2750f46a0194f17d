"""The project's metrics as a module of the `evaluate` library, which needs no download.

`evaluate` gathers batches in an Arrow file on disk, so that predictions need not fit in memory while they are made. The
metrics of its hub would have to be fetched: this subclass brings its own arithmetic.
"""

from typing import Any

import datasets
import evaluate
import numpy as np

from ...core.labels import LabelMatrix
from .metrics import decide, macro_average_precision


class PolicyMetrics(evaluate.Metric):
    """Macro average precision and micro F1 over batches of (references, predictions, mask).

    A batch holds per record K labels (0 or 1), K probabilities and K booleans (False: unlabelled). Give `cache_dir` a
    folder that may be written, and `experiment_id` where several processes share it.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Ranking and decisions of a multi-label classifier with unlabelled cells.",
            citation="",
            inputs_description="references, predictions and mask: per record one value a policy.",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Sequence(datasets.Value("float32")),
                    "mask": datasets.Sequence(datasets.Value("bool")),
                }
            ),
        )

    def _compute(
        self, *, predictions: Any, references: Any, mask: Any, threshold: float = 0.5
    ) -> dict[str, float]:
        scores = np.asarray(predictions, dtype=np.float32)
        labels = LabelMatrix(np.asarray(references), np.asarray(mask))
        return {
            "macro_average_precision": macro_average_precision(scores, labels),
            "micro_f1": decide(scores, labels, threshold).micro_f1,
        }
