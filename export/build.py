"""From a run to a bundle: graphs, tokenizer, gates, bundle.json and the model card, all or nothing."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..core.errors import StorageError
from ..core.files import atomic_folder, write_json, write_text
from ..data.records.readers import read_records
from ..data.records.record import Record
from ..data.shipped import corpus_paths
from ..serve.bundle import DOCUMENT, MODEL, TOKENIZER, Bundle
from ..serve.bundle_reader import read_bundle
from ..train.model.policy_model import PolicyModel
from ..train.run import LoadedRun
from .card import model_card
from .cascade import StageData, write_cascade
from .document import BundleDocument, file_hashes
from .gates import FUSED, INT8, Checked, check_exact, check_reduced, write_quantised
from .golden import write_golden
from .graph import can_fuse, write_fused_graph, write_graph
from .merge import merge_adapter
from .parity import TOLERANCE

CARD = "README.md"

_PARITY_TEXTS = 64


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
    :param texts: texts for the parity gate; by default held-out texts of the run.
    :param tolerance: largest difference of a probability that parity allows.
    :raises ParityError: if a graph does not give the run's probabilities and decisions; `path` is unchanged.
    :raises RecordError: if a first stage cannot be fitted and certified on the stream.
    :raises StorageError: if `path` is a folder of something else, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path / DOCUMENT).is_file() and not _is_empty_folder(path):
        raise StorageError(f"{path}: is not a bundle; it is not overwritten, choose another folder")
    texts = _held_out_texts(run) if texts is None else texts
    data = StageData.divide(stream, run) if stream else None
    with atomic_folder(path) as folder:
        shutil.copyfile(run.tokenizer_path, folder / TOKENIZER)
        merged = merge_adapter(run.model)
        write_graph(merged, folder / MODEL)
        if fused and can_fuse(merged):
            write_fused_graph(merged, folder / FUSED)
        bundle = BundleDocument(run, file_hashes(folder)).bundle(folder)
        exact = check_exact(run, bundle, texts, tolerance)
        reduced = _check_reduced(run, merged, bundle, int8=int8)
        document = BundleDocument(
            run,
            bundle.files,
            parity=exact.parity,
            variants=exact.passed + reduced.passed,
            left_out=exact.left_out + reduced.left_out,
            cascade=write_cascade(run, merged, bundle, data),
        )
        write_text(folder / CARD, model_card(document))
        write_golden(replace(document, files=file_hashes(folder)).bundle(folder), folder)
        # The hashes come last: the gates and the cascade have written further files, and so has the card.
        write_json(folder / DOCUMENT, replace(document, files=file_hashes(folder)).to_json())
        read_bundle(folder)
    return read_bundle(path)


def _check_reduced(run: LoadedRun, merged: PolicyModel, bundle: Bundle, *, int8: bool) -> Checked:
    """Check the variants of reduced precision; an int8 graph of which none passes is deleted."""
    if int8:
        write_quantised(run, merged, bundle)
        bundle = BundleDocument(run, file_hashes(bundle.path)).bundle(bundle.path)
    checked = check_reduced(run, bundle, int8=int8)
    if INT8 not in [each.variant.graph for each in checked.passed]:
        (bundle.path / INT8).unlink(missing_ok=True)
    return checked


def _held_out_texts(run: LoadedRun) -> list[str]:
    """Texts spread over the run's test split, or over the shipped corpus where the run keeps none."""
    if run.has_predictions("test"):
        texts = list(run.predictions("test").texts)
    else:
        texts = [record.text for record in read_records(corpus_paths(), None).records]
    return texts[:: max(1, len(texts) // _PARITY_TEXTS)]


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
