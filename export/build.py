"""From a run to a bundle: graphs, tokenizer, parity, bundle.json and the model card, all or nothing."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import StorageError
from ..core.files import atomic_folder, sha256_file, write_json, write_text
from ..data.cleaning.text import CLEANING_VERSION
from ..data.records.readers import read_records
from ..data.records.record import Record
from ..data.shipped import corpus_paths
from ..data.windows import WindowTokenizer
from ..serve.bundle import DOCUMENT, FORMAT_VERSION, MODEL, TOKENIZER, Bundle, parse_document, read_bundle
from ..train.evaluation.predictions import Predictions
from ..train.model.encoder import public_name
from ..train.model.policy_model import PolicyModel
from ..train.run import LoadedRun
from ..train.run_files import PREDICTIONS
from .card import model_card
from .cascade import BranchStage, StageData, fit_stage, own_stage, stage_fields, write_stage
from .gates import FUSED, INT8, Proven, decision_fields, prove_exact, prove_reduced, write_quantised
from .graph import can_fuse, write_fused_graph, write_graph
from .merge import merge_adapter
from .parity import TOLERANCE

CARD = "README.md"

_PARITY_TEXTS = 64
# Worst errors carry merchants' text, which the run keeps to itself; the bins serve only its report.
_KEPT_BY_THE_RUN = ("errors", "reliability", "confusions")


def export_bundle(
    run: LoadedRun,
    path: Path,
    *,
    fused: bool = True,
    int8: bool = False,
    stream: Sequence[Record] = (),
    texts: Sequence[str] | None = None,
    tolerance: float = TOLERANCE,
) -> Bundle:
    """Write the bundle of a run into folder `path`, replacing an older bundle there.

    :param fused: also write the graph with ONNX Runtime's fusions, where it has some for the encoder.
    :param int8: also try an int8 graph, which is written where a variant of it passes its gate.
    :param stream: records, of both kinds, like those that will be scored: a cascade's first stage is fitted on them.
    :param texts: what parity is checked on; by default held-out texts of the run.
    :raises ParityError: if a graph does not give the run's probabilities and decisions; `path` is unchanged.
    :raises RecordError: if the stream cannot fit and certify a first stage.
    :raises StorageError: if `path` is a folder of something else, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path / DOCUMENT).is_file() and not _is_empty_folder(path):
        raise StorageError(f"{path}: is not a bundle; it is not overwritten, choose another folder")
    texts = _held_out_texts(run) if texts is None else texts
    with atomic_folder(path) as folder:
        shutil.copyfile(run.tokenizer_path, folder / TOKENIZER)
        merged = merge_adapter(run.model)
        write_graph(merged, folder / MODEL)
        if fused and can_fuse(merged):
            write_fused_graph(merged, folder / FUSED)
        divided = StageData.divide(stream, run) if stream else None
        stage = own_stage(merged) if divided is None else _fitted(divided, run, merged)
        if stage is not None:
            write_stage(stage, merged, folder)
        document = bundle_document(run) | {"files": hashes(folder)}
        bundle = parse_document(document, folder)
        exact = prove_exact(run, bundle, texts, tolerance)
        reduced = _reduce(run, merged, document, folder, int8=int8)
        document["parity"] = [parity.to_json() for parity in exact.parity]
        document["variants"] = exact.entries + reduced.entries
        document["variants_left_out"] = exact.left_out + reduced.left_out
        if stage is not None:
            fields = stage_fields(run, bundle, divided.certifying if divided else ())
            document |= {} if fields is None else {"first_stage": fields}
        write_text(folder / CARD, model_card(document))
        write_json(folder / DOCUMENT, document | {"files": hashes(folder)})
        read_bundle(folder)
    return read_bundle(path)


def _fitted(divided: StageData, run: LoadedRun, merged: PolicyModel) -> BranchStage:
    tokenizer = WindowTokenizer.from_file(
        run.tokenizer_path,
        window_tokens=run.window_tokens,
        stride_tokens=run.stride_tokens,
        max_windows=run.max_windows,
    )
    return fit_stage(divided.fitted, tokenizer, vocabulary=merged.vocabulary)


def _reduce(
    run: LoadedRun, merged: PolicyModel, document: dict[str, Any], folder: Path, *, int8: bool
) -> Proven:
    """Prove the variants of reduced precision; a graph of which none passes is not kept."""
    if int8:
        write_quantised(run, merged, parse_document(document, folder))
        document["files"] = hashes(folder)
    proven = prove_reduced(run, parse_document(document, folder), int8=int8)
    if INT8 not in [entry["graph"] for entry in proven.entries]:
        (folder / INT8).unlink(missing_ok=True)
    return proven


def bundle_document(run: LoadedRun) -> dict[str, Any]:
    """What bundle.json says of a run, without `variants`, `parity` and `files`."""
    measured = run.metrics.get("test", {})
    return {
        "format_version": FORMAT_VERSION,
        "name": run.name,
        "version": run.version,
        **decision_fields(run.taxonomy, run.calibration, run.thresholds, run.any_review),
        "taxonomy": run.taxonomy.to_json(),
        "cleaning_version": CLEANING_VERSION,
        "window_tokens": run.window_tokens,
        "stride_tokens": run.stride_tokens,
        "max_windows": run.max_windows,
        "pooling": run.pooling,
        "base": run.base.to_json() | {"name": public_name(run.base.name)},
        "data_hash": run.data_hash,
        "metrics": {name: value for name, value in measured.items() if name not in _KEPT_BY_THE_RUN},
    }


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a bundle but bundle.json itself."""
    return {entry.name: sha256_file(entry) for entry in sorted(folder.iterdir()) if entry.name != DOCUMENT}


def _held_out_texts(run: LoadedRun) -> list[str]:
    """Texts spread over the run's test split, or over the shipped corpus where the run kept none."""
    kept = run.path / PREDICTIONS / "test.parquet"
    if kept.is_file():
        texts = list(Predictions.load(kept).texts)
    else:
        texts = [record.text for record in read_records(corpus_paths(), None).records]
    return texts[:: max(1, len(texts) // _PARITY_TEXTS)]


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
