"""A run's folder: what a finished training leaves behind, and how to open it again."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from peft import PeftModel

from ..core.errors import RunError
from ..core.files import read_json, sha256_file, write_json
from ..data.records.record import Record, label_matrix
from ..data.taxonomy import Taxonomy
from . import run_files as names
from .batching.dataset import window_tokenizer
from .batching.window_table import build_window_table
from .calibration.platt_scaling import Calibration
from .calibration.thresholds import PolicyThreshold, ReviewCertificate, thresholds_from_json
from .evaluation.breakdown import length_band
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

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "numpy", "onnxruntime")
_SLICED = ("form", "kind", "source", "country")


@dataclass(frozen=True, slots=True, eq=False)
class LoadedRun:
    """A finished run in memory; the model holds its adapter unmerged, in evaluation mode, in float32."""

    path: Path
    settings: Settings
    taxonomy: Taxonomy
    model: PolicyModel
    calibration: Calibration
    thresholds: tuple[PolicyThreshold, ...]
    metrics: dict[str, Any]
    base: Base
    data_hash: str
    version: str
    any_review: ReviewCertificate | None = None
    """Of the limit on the probability of any violation; None where the run has no such limit."""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.settings.name

    @property
    def tokenizer_path(self) -> Path:
        """The run's tokenizer.json."""
        return self.path / names.TOKENIZER

    @property
    def window_tokens(self) -> int:
        """Most tokens in a window, special tokens included."""
        return self.settings.model.window_tokens

    @property
    def stride_tokens(self) -> int:
        """Tokens that neighbouring windows share."""
        return self.settings.model.stride_tokens

    @property
    def max_windows(self) -> int:
        """Most windows of a text; what lies beyond is cut and reported."""
        return self.settings.model.max_windows

    @property
    def pooling(self) -> str:
        """How window logits become a record's: "max" or "attention"."""
        return self.settings.model.window_pooling


def environment() -> dict[str, Any]:
    """Versions of Python, the libraries and the machine, for the run's provenance."""
    libraries: dict[str, str | None] = {}
    for name in (*_LIBRARIES, "merchantguard"):
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = None
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor() or "cpu"
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "libraries": libraries,
    }


def save_model(model: PolicyModel, folder: Path) -> None:
    """Write the adapter in peft's own format (or the whole encoder) and everything else as head.safetensors."""
    save_weights(
        {k: v.detach().cpu().contiguous() for k, v in model.own_parameters().items()}, folder / names.HEAD
    )
    state = trained_state(model)
    encoder = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    if not isinstance(model.encoder, PeftModel):
        save_weights(encoder, folder / names.ENCODER)
        return
    config = model.encoder.peft_config["default"].to_dict()
    write_json(folder / names.ADAPTER / "adapter_config.json", _plain(config))
    save_weights(encoder, folder / names.ADAPTER / "adapter_model.safetensors")


def _plain(value: Any) -> Any:
    """peft's configuration in JSON's own types: sets become sorted lists, enums their values."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)


def load_model(settings: Settings, folder: Path, *, n_policies: int) -> PolicyModel:
    """Build the model and put the run's weights into it.

    :raises RunError: if weights are missing or do not fit the settings.
    """
    model = build_model(
        settings.model,
        settings.lora,
        n_policies=n_policies,
        pretrained=settings.lora.enabled,
        complete=True,
    )
    adapter = folder / names.ADAPTER / "adapter_model.safetensors"
    try:
        state = load_weights(folder / names.HEAD)
        encoder = load_weights(adapter if settings.lora.enabled else folder / names.ENCODER)
        state |= {f"encoder.{name}": tensor for name, tensor in encoder.items()}
        load_trained_state(model, state)
    except (OSError, RuntimeError) as error:
        raise RunError(f"{folder}: the run's weights cannot be loaded: {error}") from error
    return model.eval()


def load_run(path: Path) -> LoadedRun:
    """Open a finished run.

    :raises RunError: if a file is missing or the run never finished.
    """
    path = Path(path)
    needed = (names.SETTINGS, names.TAXONOMY, names.PROVENANCE, names.CALIBRATION, names.THRESHOLDS)
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise RunError(
            f"{path}: is not a finished run ({', '.join(missing)} missing); finish it with "
            f"`merchantguard train ... --out {path} --resume`"
        )
    settings = load_settings(path / names.SETTINGS)
    taxonomy = Taxonomy.from_json(read_json(path / names.TAXONOMY))
    provenance = read_json(path / names.PROVENANCE)
    metrics = read_json(path / names.METRICS) if (path / names.METRICS).is_file() else {}
    thresholds, any_review = thresholds_from_json(read_json(path / names.THRESHOLDS))
    return LoadedRun(
        path=path,
        settings=settings,
        taxonomy=taxonomy,
        model=load_model(settings, path, n_policies=len(taxonomy)),
        calibration=Calibration.from_json(read_json(path / names.CALIBRATION)),
        thresholds=thresholds,
        any_review=any_review,
        metrics=metrics,
        base=Base(**provenance["base"]),
        data_hash=provenance["data_hash"],
        version=provenance["version"],
    )


def record_predictions(
    records: Sequence[Record], taxonomy: Taxonomy, logits: np.ndarray, windows: Sequence[int]
) -> Predictions:
    """Set logits (N, K) beside what is known of the records, with the slices that reports use."""
    labels = label_matrix(records, taxonomy)
    slices = {"length": tuple(length_band(len(record.text)) for record in records)}
    for name in _SLICED:
        values = tuple(str(_field(record, name) or "") for record in records)
        if any(values):
            slices[name] = values
    slices["windows"] = tuple("one window" if count == 1 else "several windows" for count in windows)
    return Predictions(
        ids=tuple(r.id for r in records),
        logits=logits,
        labels=labels.values,
        known=labels.mask,
        domains=tuple(r.domain or r.id for r in records),
        slices=slices,
        texts=tuple(r.text for r in records),
    )


def _field(record: Record, name: str) -> Any:
    return record.country if name == "country" else record.extra.get(name)


def predict_records(run: LoadedRun, records: Sequence[Record], *, cache: Path) -> Predictions:
    """Predictions of a finished run for records, through the same cleaning and windows as in training.

    :param cache: a folder that may be written; the windows are kept there.
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
    )
    return record_predictions(records, run.taxonomy, logits, table.n_windows.tolist())


def write_provenance(
    path: Path,
    *,
    base: Base,
    data_hash: str,
    files: dict[str, str],
    package_version: str,
    extra: dict[str, Any],
) -> None:
    """Write where the run came from: base weights, data, libraries, figures of the training itself."""
    write_json(
        path / names.PROVENANCE,
        {
            "version": package_version,
            "base": base.to_json(),
            "data_hash": data_hash,
            "files": files,
            "tokenizer_sha256": sha256_file(path / names.TOKENIZER),
            "environment": environment(),
            **extra,
        },
    )
