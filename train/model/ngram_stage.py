"""After the encoder's training: the n-gram branch is fitted on the same windows, and the mixture of both on others."""

import numpy as np
import torch

from ...data.windows import WindowTokenizer
from ..batching.window_table import Labelled
from ..settings import ModelSettings
from .mixture import fit_mixture
from .ngram_branch import NgramBranch
from .ngram_fitting import fit_ngrams, piece_spellings
from .policy_model import PolicyModel

# The branch is fitted in memory: of more records it is fitted on as many, drawn at random.
_MOST_RECORDS = 200_000


def _window_cells(train: Labelled) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    """Windows with the labels of their record; which window of a long record carries a label is not known, so its
    positive cells are left out."""
    rows = np.arange(len(train.table))
    if len(rows) > _MOST_RECORDS:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), _MOST_RECORDS, replace=False))
    per_record = train.table.windows(rows.tolist())
    counts = np.array([len(windows) for windows in per_record])
    owner = np.repeat(np.arange(len(counts)), counts)
    single = (counts == 1)[owner]
    targets, known = train.targets[rows][owner], train.known[rows][owner]
    return (
        [w for windows in per_record for w in windows],
        targets,
        known & (single[:, None] | (targets < 0.5)),
    )


def fit_branch(
    settings: ModelSettings, train: Labelled, *, vocabulary: int, tokenizer: WindowTokenizer
) -> NgramBranch:
    """An n-gram branch fitted on the training windows, one output per column of the targets.

    :param vocabulary: number of token ids that the encoder knows.
    """
    # What an empty text is made of is what every window carries besides its text.
    special = {tokenizer.pad_id, *tokenizer.encode("").windows[0].ids}
    branch = NgramBranch(vocabulary, settings.ngram_buckets, train.targets.shape[1], sorted(special))
    fit_ngrams(
        branch,
        *_window_cells(train),
        strength=settings.ngram_strength,
        spellings=piece_spellings(tokenizer.pieces)[:vocabulary],
        spelling_weight=settings.ngram_spelling,
    )
    return branch


@torch.no_grad()
def branch_scores(branch: NgramBranch, labelled: Labelled) -> np.ndarray:
    """Record scores (N, outputs): the highest of each record's windows."""
    per_record = labelled.table.windows(range(len(labelled.table)))
    rows = [[branch(torch.tensor([w]), torch.ones((1, len(w))))[0].numpy() for w in ws] for ws in per_record]
    return np.stack([np.max(row, axis=0) for row in rows])


def complete(
    model: PolicyModel,
    settings: ModelSettings,
    train: Labelled,
    validation: Labelled,
    encoder_scores: np.ndarray,
    *,
    tokenizer: WindowTokenizer,
) -> None:
    """Give a trained `model` what its settings want besides the encoder: the n-gram branch and the mixture.

    :param train: with the column of "some violation" where the model has a gate.
    :param encoder_scores: the model's record scores on the validation split, before this.
    """
    branch = None
    if settings.ngram_buckets:
        branch = fit_branch(settings, train, vocabulary=model.vocabulary, tokenizer=tokenizer)
    ngrams = branch_scores(branch, validation) if branch is not None else None
    mixture = fit_mixture(encoder_scores, ngrams, validation.targets, validation.known, gated=settings.gate)
    device = model.head.weight.device
    model.ngrams = branch.to(device) if branch is not None else None
    model.mixture = mixture.to(device)
