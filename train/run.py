"""A run's folder: the files that a finished training writes, and how to open them again."""

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from peft import PeftModel

from ..core.decisions import Calibration
from ..core.errors import RunError
from ..core.files import read_json, write_json
from ..data.language import ENGLISH
from ..data.languages import tell_languages
from ..data.records.record import Record, label_matrix
from ..data.taxonomy import Taxonomy
from .batching.window_table import build_window_table, window_tokenizer
from .calibration.thresholds import Thresholds
from .evaluation.breakdown import length_band
from .evaluation.decision_rule import DecisionRule
from .evaluation.predictions import Predictions
from .fitting.predict import predict_logits
from .model.encoder import Base
from .model.policy_model import (
    PolicyModel,
    build_model,
    load_trained_state,
    load_weights,
    save_weights,
    trained_state,
)
from .settings import Settings, load_settings

SETTINGS = "settings.yaml"
TAXONOMY = "taxonomy.json"
PROVENANCE = "provenance.json"
HEAD = "head.safetensors"
ADAPTER = "adapter"
ENCODER = "encoder.safetensors"
TOKENIZER = "tokenizer.json"
SPLIT_MANIFEST = "splits.json"
CALIBRATION = "calibration.json"
THRESHOLDS = "thresholds.json"
METRICS = "metrics.json"
BEHAVIOUR = "behaviour.json"
LOG = "log.jsonl"
REPORT = "report.html"
CARD = "README.md"

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "numpy", "onnxruntime")
_SLICED = ("form", "kind", "source", "country")


def predictions_file(folder: Path, split: str) -> Path:
    """The file with the predictions of a held-out split in a run's folder."""
    return folder / "predictions" / f"{split}.parquet"


@dataclass(frozen=True, slots=True)
class Environment:
    """Versions of Python, the libraries (None where one is missing) and the machine."""

    python: str
    platform: str
    device: str
    threads: int
    libraries: Mapping[str, str | None]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """Figures about the training itself."""

    trainable_parameters: int
    parameters: int
    padding_share: float
    best_step: int
    steps: int
    processes: int

    def to_json(self) -> dict[str, float]:
        """A plain dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a run: base weights, data, libraries, and the training itself.

    `files` maps each record file to the SHA-256 of its bytes; `policies_without_positives` is by split.
    """

    base: Base
    data_hash: str
    files: Mapping[str, str]
    tokenizer_sha256: str
    environment: Environment
    training: TrainingFacts
    policies_without_positives: Mapping[str, list[str]]

    def save(self, folder: Path) -> None:
        """Write it into a run's folder."""
        write_json(folder / PROVENANCE, asdict(self))


@dataclass(frozen=True, slots=True, eq=False)
class LoadedRun:
    """A finished run in memory; the model has its adapter unmerged, in evaluation mode and float32."""

    path: Path
    settings: Settings
    taxonomy: Taxonomy
    model: PolicyModel
    rule: DecisionRule
    metrics: dict[str, Any]
    base: Base
    data_hash: str

    @property
    def name(self) -> str:
        """The run's name."""
        return self.settings.name

    @property
    def tokenizer_path(self) -> Path:
        """The run's tokenizer.json."""
        return self.path / TOKENIZER

    def has_predictions(self, split: str) -> bool:
        """Whether the run has predictions of a split."""
        return predictions_file(self.path, split).is_file()

    def predictions(self, split: str) -> Predictions:
        """The predictions of a held-out split.

        :raises RunError: if the run has none.
        """
        return Predictions.load(predictions_file(self.path, split))


def environment() -> Environment:
    """The environment of this process."""
    libraries: dict[str, str | None] = {}
    for name in (*_LIBRARIES, "merchantguard"):
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = None
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor() or "cpu"
    return Environment(
        python=sys.version.split()[0],
        platform=platform.platform(),
        device=device,
        threads=torch.get_num_threads(),
        libraries=libraries,
    )


def write_rule(rule: DecisionRule, folder: Path) -> None:
    """Write calibration and thresholds into a run's folder.

    :raises ValueError: if the rule has no threshold of any violation.
    """
    if rule.any_review is None:
        raise ValueError("a run needs a review threshold of any violation")
    write_json(folder / CALIBRATION, rule.calibration.to_json())
    thresholds = Thresholds(tuple(rule.thresholds), rule.any_review, rule.pooled)
    write_json(folder / THRESHOLDS, thresholds.to_json())


def read_rule(folder: Path) -> DecisionRule:
    """Calibration and thresholds of a run.

    :raises RunError: if they cannot be read.
    """
    found = Thresholds.from_json(read_json(folder / THRESHOLDS))
    calibration = Calibration.from_json(read_json(folder / CALIBRATION))
    return DecisionRule(calibration, found.policies, found.any_review, found.pooled)


def save_model(model: PolicyModel, folder: Path) -> None:
    """Write the adapter in peft's own format (or the whole encoder) and everything else as head.safetensors."""
    save_weights({k: v.detach().cpu().contiguous() for k, v in model.own_parameters().items()}, folder / HEAD)
    state = trained_state(model)
    encoder = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    if not isinstance(model.encoder, PeftModel):
        save_weights(encoder, folder / ENCODER)
        return
    config = model.encoder.peft_config["default"].to_dict()
    write_json(folder / ADAPTER / "adapter_config.json", _plain(config))
    save_weights(encoder, folder / ADAPTER / "adapter_model.safetensors")


def _plain(value: Any) -> Any:
    """peft's configuration in JSON types: sets become sorted lists, enums their values."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)


def load_model(settings: Settings, folder: Path, *, n_policies: int) -> PolicyModel:
    """Build the model and load the run's weights into it.

    :raises RunError: if weights are missing or do not match the settings.
    """
    model = build_model(
        settings.model,
        settings.lora,
        n_policies=n_policies,
        pretrained=settings.lora.enabled,
        complete=True,
    )
    adapter = folder / ADAPTER / "adapter_model.safetensors"
    try:
        state = load_weights(folder / HEAD)
        encoder = load_weights(adapter if settings.lora.enabled else folder / ENCODER)
        state |= {f"encoder.{name}": tensor for name, tensor in encoder.items()}
        load_trained_state(model, state)
    except (OSError, RuntimeError) as error:
        raise RunError(f"{folder}: the run's weights cannot be loaded: {error}") from error
    return model.eval()


def load_run(path: Path) -> LoadedRun:
    """Open a finished run.

    :raises RunError: if a file is missing, or the run is not finished.
    """
    path = Path(path)
    needed = (SETTINGS, TAXONOMY, PROVENANCE, CALIBRATION, THRESHOLDS)
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise RunError(
            f"{path}: is not a finished run (missing: {', '.join(missing)}); finish it with "
            f"`merchantguard train ... --out {path} --resume`"
        )
    settings = load_settings(path / SETTINGS)
    taxonomy = Taxonomy.from_json(read_json(path / TAXONOMY))
    provenance = read_json(path / PROVENANCE)
    return LoadedRun(
        path=path,
        settings=settings,
        taxonomy=taxonomy,
        model=load_model(settings, path, n_policies=len(taxonomy)),
        rule=read_rule(path),
        metrics=read_json(path / METRICS) if (path / METRICS).is_file() else {},
        base=Base(**provenance["base"]),
        data_hash=provenance["data_hash"],
    )


def record_predictions(
    records: Sequence[Record], taxonomy: Taxonomy, logits: np.ndarray, windows: Sequence[int]
) -> Predictions:
    """Predictions from logits (N, K) and the records, with the slices that reports show."""
    labels = label_matrix(records, taxonomy)
    slices = {"length": tuple(length_band(len(record.text)) for record in records)}
    for name in _SLICED:
        values = tuple(str(_field(record, name) or "") for record in records)
        if any(values):
            slices[name] = values
    languages = tell_languages([record.text for record in records])
    if set(languages) - {ENGLISH, ""}:
        slices["language"] = languages
    slices["windows"] = tuple("one window" if count == 1 else "several windows" for count in windows)
    return Predictions(
        ids=tuple(r.id for r in records),
        logits=logits,
        labels=labels,
        domains=tuple(r.domain or r.id for r in records),
        slices=slices,
        texts=tuple(r.text for r in records),
        windows=np.asarray(windows, dtype=np.int64),
    )


def _field(record: Record, name: str) -> Any:
    return record.country if name == "country" else record.extra.get(name)


def predict_records(
    run: LoadedRun,
    records: Sequence[Record],
    *,
    cache: Path,
    on_progress: Callable[[int], None] | None = None,
) -> Predictions:
    """Predictions of a finished run for records, with the same cleaning and windows as in training.

    :param cache: a folder for the windows, which must not exist yet.
    :param on_progress: called now and then with the number of records that are finished.
    """
    tokenizer = window_tokenizer(run.tokenizer_path, run.settings.model)
    table = build_window_table(records, tokenizer, cache)
    state = PartialState()
    logits = predict_logits(
        run.model.to(state.device),
        table,
        state,
        budget=2 * run.settings.optim.batch_tokens,
        n_outputs=len(run.taxonomy),
        on_progress=on_progress,
    )
    return record_predictions(records, run.taxonomy, logits, table.n_windows.tolist())
