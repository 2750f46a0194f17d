"""The first stage of a cascade: a cheap graph that scores suspicion, and the scores that certify what it may lose.

It is the n-gram branch the model has anyway or, better, one fitted to tell violating texts from compliant ones on
records of the stream that will be scored: the corpus's compliant merchants are near misses, a stream's are not.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.errors import RecordError
from ..data.records.record import Record
from ..data.windows import WindowTokenizer
from ..serve.bundle import Bundle
from ..serve.cascade import first_stage_scores
from ..serve.engine.batching import WindowRunner
from ..serve.engine.onnx_model import OUTPUTS, OnnxModel
from ..serve.engine.workers import Workers
from ..serve.preprocess import read_texts
from ..serve.scorer import load_tokenizer
from ..train.evaluation.predictions import Predictions
from ..train.model.ngram_branch import NgramBranch
from ..train.model.ngram_fitting import fit_ngrams, piece_spellings
from ..train.model.policy_model import PolicyModel
from ..train.run import LoadedRun
from ..train.run_files import PREDICTIONS
from .graph import quiet, trace
from .merge import example_inputs

FIRST_STAGE = "model.first.onnx"

_BUCKETS = 131_072
# Inverse regularisation. Of 3, 10, 30 and 100 what clears most of compliant texts that were held out.
_STRENGTH = 10.0
_FITTED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class StageData:
    """Records of a stream: what a first stage is fitted on, and violating ones of other merchants that certify it."""

    fitted: Sequence[Record]
    certifying: Sequence[Record]

    @classmethod
    def divide(cls, records: Iterable[Record], run: LoadedRun) -> "StageData":
        """All compliant records and those of half of the violating merchants to fit on. Merchants of the run's calibration
        and test splits are left out, as are records without labels that were not judged for every policy.

        :raises RecordError: if nothing is left of one of the kinds.
        """
        held = {name for split in ("calibration", "test") for name in _names(run, split)}
        usable = [
            r for r in records if r.id not in held and r.domain not in held and (r.labels or not r.unknown)
        ]
        fitted = [
            record for record in usable if not record.labels or _place(_merchant(record)) < _FITTED_SHARE
        ]
        certifying = [
            record for record in usable if record.labels and _place(_merchant(record)) >= _FITTED_SHARE
        ]
        violating = sum(bool(record.labels) for record in fitted)
        if not violating or violating == len(fitted) or not certifying:
            raise RecordError(
                f"the stream's records leave {violating} violating and {len(fitted) - violating} compliant ones to fit a "
                f"first stage on and {len(certifying)} to certify it: give records of both kinds that the run did not "
                "keep for calibration or test"
            )
        return cls(fitted, certifying)


class BranchStage(torch.nn.Module):
    """An n-gram branch's suspicion of a window, (B, 1): its only output or, of the model's own branch, its score of some
    violation and half its highest policy.

    Of gate, highest policy, logsumexp and sums of them this ranks compliant merchants by other writers lowest (AUROC
    0.907; gate alone 0.894, highest policy alone 0.853).
    """

    def __init__(self, branch: NgramBranch, *, gated: bool) -> None:
        super().__init__()
        self.branch, self.gated = branch, gated

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Suspicion (B, 1) of windows of token ids (B, T)."""
        scores = self.branch(input_ids, attention_mask)
        if not self.gated:
            return scores.amax(dim=1, keepdim=True)
        return scores[:, -1:] + 0.5 * scores[:, :-1].amax(dim=1, keepdim=True)


def own_stage(merged: PolicyModel) -> BranchStage | None:
    """The model's own branch as a first stage; None where it has none."""
    if merged.ngrams is None or merged.mixture is None:
        return None
    return BranchStage(merged.ngrams, gated=merged.mixture.gated)


def fit_stage(records: Sequence[Record], tokenizer: WindowTokenizer, *, vocabulary: int) -> BranchStage:
    """A first stage fitted on records with labels and without.

    :param vocabulary: number of token ids that the encoder knows.
    """
    special = sorted({tokenizer.pad_id, *tokenizer.encode("").windows[0].ids})
    branch = NgramBranch(vocabulary, _BUCKETS, 1, special)
    readings = read_texts([record.text for record in records], tokenizer)
    windows = [ids for reading in readings for ids in reading.ids]
    targets = [
        float(bool(r.labels)) for r, reading in zip(records, readings, strict=True) for _ in reading.ids
    ]
    # Which window of a long violating record carries the violation is not known.
    alone = [len(reading.ids) == 1 for reading in readings for _ in reading.ids]
    known = np.array(alone) | (np.array(targets) == 0)
    fit_ngrams(
        branch,
        windows,
        np.array(targets)[:, None],
        known[:, None],
        strength=_STRENGTH,
        spellings=piece_spellings(tokenizer.pieces)[:vocabulary],
    )
    return BranchStage(branch, gated=False)


def write_stage(stage: BranchStage, merged: PolicyModel, folder: Path) -> None:
    """Write the graph of a first stage into the folder of a bundle."""
    with quiet():
        trace(stage, example_inputs(merged, batch=3, length=8), OUTPUTS["max"], folder / FIRST_STAGE)


def stage_fields(run: LoadedRun, bundle: Bundle, certifying: Sequence[Record] = ()) -> dict[str, Any] | None:
    """What bundle.json says of the first stage: the scores of violating texts that nothing was fitted on, of each
    merchant the lowest, as texts of one merchant are no independent draws. None where there are none.

    :param certifying: violating records beside those of the run's calibration split.
    """
    texts = [(merchant, text) for merchant, text in _violating(run)]
    texts += [(_merchant(record), record.text) for record in certifying]
    if not texts:
        return None
    model = OnnxModel(bundle.path / FIRST_STAGE, pooling="max", policies=1)
    tokenizer = load_tokenizer(bundle)
    runner = WindowRunner(model, Workers(1), pad_id=tokenizer.pad_id, window_tokens=bundle.window_tokens)
    scores = first_stage_scores(runner, read_texts([text for _, text in texts], tokenizer))
    lowest: dict[str, float] = {}
    for (merchant, _), score in zip(texts, scores.tolist(), strict=True):
        lowest[merchant] = min(score, lowest.get(merchant, score))
    return {
        "graph": FIRST_STAGE,
        "confidence": run.settings.thresholds.confidence,
        "violating_scores": sorted(lowest.values()),
    }


def _violating(run: LoadedRun) -> list[tuple[str, str]]:
    """Merchant and text of the violating records of the calibration split."""
    held = _kept(run, "calibration")
    if held is None:
        return []
    rows = np.flatnonzero(((held.labels > 0.5) & held.known).any(axis=1)).tolist()
    return [(held.domains[row], held.texts[row]) for row in rows]


def _names(run: LoadedRun, split: str) -> set[str]:
    held = _kept(run, split)
    return set() if held is None else {*held.ids, *held.domains}


def _kept(run: LoadedRun, split: str) -> Predictions | None:
    path = run.path / PREDICTIONS / f"{split}.parquet"
    return Predictions.load(path) if path.is_file() else None


def _merchant(record: Record) -> str:
    return record.domain or record.id


def _place(merchant: str) -> float:
    """A number in [0, 1) that is always the same for a merchant."""
    digest = hashlib.sha256(f"first stage:{merchant}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
