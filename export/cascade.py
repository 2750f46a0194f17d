"""The first stage of a cascade: a cheap graph that scores suspicion, and the scores that certify what it may lose.

It is the model's own n-gram branch or, better, one fitted to tell violating texts from compliant ones on records of
the stream that will be scored: the corpus's compliant merchants are near misses, those of a stream are not.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..core.errors import RecordError
from ..core.labels import LabelMatrix
from ..data.records.record import Record
from ..data.windows import WindowTokenizer
from ..serve.bundle import Bundle, CascadeStage
from ..serve.cascade import StageScorer
from ..serve.engine.onnx_model import OUTPUTS
from ..serve.preprocess import encode_texts
from ..serve.scorer import load_tokenizer
from ..train.evaluation.predictions import Predictions
from ..train.model.ngram_branch import NgramBranch
from ..train.model.ngram_stage import fit_ngrams, piece_spellings
from ..train.model.policy_model import PolicyModel
from ..train.run import LoadedRun
from .graph import quiet, trace
from .merge import example_inputs

FIRST_STAGE = "model.first.onnx"

_BUCKETS = 131_072
# Inverse regularisation: of 3, 10, 30 and 100 the one that clears most held-out compliant texts.
_STRENGTH = 10.0
_FITTED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class StageData:
    """Records of a stream: those that a first stage is fitted on, and violating ones of other merchants to certify it."""

    fitted: Sequence[Record]
    certifying: Sequence[Record]

    @classmethod
    def divide(cls, records: Iterable[Record], run: LoadedRun) -> "StageData":
        """Fit on all compliant records and on half of the violating merchants, certify by the other half.

        Merchants of the run's calibration and test splits are left out, and so are records without a violation that
        are not labelled for every policy.

        :raises RecordError: if no record of one of the kinds is left.
        """
        held = {name for split in ("calibration", "test") for name in _names(run, split)}
        usable = [
            r for r in records if r.id not in held and r.domain not in held and (r.labels or not r.unknown)
        ]
        fitted = [
            record for record in usable if not record.labels or _position(_merchant(record)) < _FITTED_SHARE
        ]
        certifying = [
            record for record in usable if record.labels and _position(_merchant(record)) >= _FITTED_SHARE
        ]
        violating = sum(bool(record.labels) for record in fitted)
        if not violating or violating == len(fitted) or not certifying:
            raise RecordError(
                f"of the stream's records {violating} violating and {len(fitted) - violating} compliant ones are left to fit "
                f"a first stage on, and {len(certifying)} to certify it: give records of both kinds that are not in the "
                "run's calibration and test splits"
            )
        return cls(fitted, certifying)


class BranchStage(torch.nn.Module):
    """An n-gram branch's suspicion of a window, (B, 1): its only output or, for the model's own, the highest policy's."""

    def __init__(self, branch: NgramBranch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Suspicion (B, 1) of windows of token ids (B, T)."""
        return self.branch(input_ids, attention_mask).amax(dim=1, keepdim=True)


def own_stage(merged: PolicyModel) -> BranchStage | None:
    """The model's own n-gram branch as a first stage; None where it has none."""
    return None if merged.ngrams is None else BranchStage(merged.ngrams)


def fit_stage(records: Sequence[Record], tokenizer: WindowTokenizer, vocabulary: int) -> BranchStage:
    """A first stage fitted on violating and compliant records.

    :param vocabulary: number of token ids that the encoder knows.
    """
    special = sorted({tokenizer.pad_id, *tokenizer.encode("").windows[0].ids})
    branch = NgramBranch(vocabulary, _BUCKETS, 1, special)
    texts = encode_texts([record.text for record in records], tokenizer)
    windows = [ids for encoded in texts for ids in encoded.ids]
    targets = [
        float(bool(record.labels))
        for record, encoded in zip(records, texts, strict=True)
        for _ in encoded.ids
    ]
    # Which window of a long violating record carries the violation is not known.
    alone = [len(encoded.ids) == 1 for encoded in texts for _ in encoded.ids]
    mask = np.array(alone) | (np.array(targets) == 0)
    fit_ngrams(
        branch,
        windows,
        LabelMatrix(np.array(targets)[:, None], mask[:, None]),
        strength=_STRENGTH,
        spellings=piece_spellings(tokenizer.pieces)[:vocabulary],
    )
    return BranchStage(branch)


def write_cascade(
    run: LoadedRun, merged: PolicyModel, bundle: Bundle, data: StageData | None
) -> CascadeStage | None:
    """Write the graph of a first stage into the folder of a bundle; None where there is none, or nothing certifies it.

    :param data: fits a first stage; without it the model's own branch is one.
    """
    tokenizer = load_tokenizer(bundle)
    stage = own_stage(merged) if data is None else fit_stage(data.fitted, tokenizer, merged.vocabulary)
    texts = _violating(run) + [(_merchant(each), each.text) for each in (data.certifying if data else ())]
    if stage is None or not texts:
        return None
    with quiet():
        trace(stage, example_inputs(merged, batch=3, length=8), OUTPUTS["max"], bundle.path / FIRST_STAGE)
    scorer = StageScorer(bundle, FIRST_STAGE, workers=1, pad_id=tokenizer.pad_id)
    scores = scorer.scores(encode_texts([text for _, text in texts], tokenizer))
    return CascadeStage(FIRST_STAGE, run.settings.thresholds.confidence, _lowest(texts, scores.tolist()))


def _lowest(texts: Sequence[tuple[str, str]], scores: Sequence[float]) -> tuple[float, ...]:
    """The lowest score of each merchant, rising: texts of one merchant are not independent draws."""
    lowest: dict[str, float] = {}
    for (merchant, _), score in zip(texts, scores, strict=True):
        lowest[merchant] = min(score, lowest.get(merchant, score))
    return tuple(sorted(lowest.values()))


def _violating(run: LoadedRun) -> list[tuple[str, str]]:
    """Merchant and text of the violating records of the calibration split."""
    held = _kept(run, "calibration")
    if held is None:
        return []
    rows = np.flatnonzero(held.labels.violating).tolist()
    return [(held.domains[row], held.texts[row]) for row in rows]


def _names(run: LoadedRun, split: str) -> set[str]:
    held = _kept(run, split)
    return set() if held is None else {*held.ids, *held.domains}


def _kept(run: LoadedRun, split: str) -> Predictions | None:
    return run.predictions(split) if run.has_predictions(split) else None


def _merchant(record: Record) -> str:
    return record.domain or record.id


def _position(merchant: str) -> float:
    """A number in [0, 1) that is always the same for one merchant."""
    digest = hashlib.sha256(f"first stage:{merchant}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
