"""The package's own model behind the interface of `baselines.py`."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from baselines import Classifier
from numpy.typing import NDArray

from merchantguard.core.files import read_json
from merchantguard.data.records.record import Record
from merchantguard.data.taxonomy import Taxonomy
from merchantguard.train.batching.dataset import SplitRecords
from merchantguard.train.pipeline import train_run
from merchantguard.train.run import LOG, PROVENANCE, LoadedRun, load_run, predict_records
from merchantguard.train.settings import Settings, load_settings

SETTINGS_FILE = Path(__file__).resolve().parents[1] / "configs" / "minilm.yaml"
# Full fine-tuning wants about a tenth of the adapter's rate; the head keeps its own.
FULL = ("lora.enabled=false", "optim.learning_rate=1.0e-4")


@dataclass
class PackageModel:
    """Trains through `train_run` into a temporary folder and scores with the run it leaves behind.

    The records that choose the best step also stand in for the run's calibration and test splits: what the run makes
    of those two is not used, as the benchmark calibrates every model on the same records.
    """

    settings: Settings
    notes: dict[str, Any] = field(default_factory=dict)

    def fit(self, train: Sequence[Record], validation: Sequence[Record], taxonomy: Taxonomy) -> None:
        """Train; the weights are those of the best step on `validation`."""
        self.folder = tempfile.TemporaryDirectory(prefix="quality-")
        held = list(validation)
        splits = {"train": list(train), "validation": held, "calibration": held, "test": held}
        path = Path(self.folder.name) / "run"
        train_run(self.settings, SplitRecords(taxonomy, splits, None, {}), path)
        self.run: LoadedRun = load_run(path)
        self.notes = _facts(path)

    def logits(self, records: Sequence[Record]) -> NDArray[np.float32]:
        """Logits (N, K) of the finished run, through its own cleaning and windows."""
        with tempfile.TemporaryDirectory(prefix="quality-") as cache:
            return predict_records(self.run, records, cache=Path(cache) / "windows").logits


def train_ours(
    *, seed: int, full: bool = False, config: Path = SETTINGS_FILE, overrides: Sequence[str] = ()
) -> Classifier:
    """The package's LoRA fine-tuned encoder; `full` fine-tunes the whole encoder instead.

    :param overrides: `group.key=value` on top of `config`, as on the command line.
    :raises SettingsError: if the settings are wrong.
    """
    own = [f"seed={seed}", "loop.trackers=[]", *(FULL if full else ()), *overrides]
    return PackageModel(load_settings(config, overrides=own))


def _facts(path: Path) -> dict[str, Any]:
    """What the run says of its training; `loop_seconds` leaves out the report that a run also writes."""
    training: dict[str, Any] = read_json(path / PROVENANCE)["training"]
    log = [json.loads(line) for line in (path / LOG).read_text(encoding="utf-8").splitlines()]
    kept = ("trainable_parameters", "parameters", "best_step", "steps")
    return {**{name: training[name] for name in kept}, "loop_seconds": log[-1]["seconds"]}
