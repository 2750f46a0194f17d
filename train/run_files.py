"""The names of the files in a run's folder, in one place."""

import json
from typing import Any

SETTINGS = "settings.yaml"
TAXONOMY = "taxonomy.json"
PROVENANCE = "provenance.json"
HEAD = "head.safetensors"
ADAPTER = "adapter"
ENCODER = "encoder.safetensors"
TOKENIZER = "tokenizer.json"
SPLITS = "splits.json"
CALIBRATION = "calibration.json"
THRESHOLDS = "thresholds.json"
METRICS = "metrics.json"
LOG = "log.jsonl"
REPORT = "report.html"
CARD = "README.md"
PREDICTIONS = "predictions"


def log_lines(log: list[dict[str, Any]]) -> str:
    """The training log as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in log)
