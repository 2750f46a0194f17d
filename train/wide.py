"""Adding the n-gram branch to a trained encoder: fit it on the same windows, bring both to one scale, sum."""

import numpy as np
import torch

from ..data.windows import WindowTokenizer
from .loop import Labelled
from .model import PolicyModel
from .ngrams import NgramBranch, fit_ngrams
from .settings import ModelSettings


def _window_cells(train: Labelled) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    """Windows with the labels of their record; which window of a long record carries a label is not known, so its
    positive cells are left out."""
    per_record = train.table.windows(range(len(train.table)))
    counts = np.array([len(windows) for windows in per_record])
    owner = np.repeat(np.arange(len(counts)), counts)
    single = (counts == 1)[owner]
    targets, known = train.targets[owner], train.known[owner]
    return (
        [w for windows in per_record for w in windows],
        targets,
        known & (single[:, None] | (targets < 0.5)),
    )


def _spread(logits: np.ndarray) -> float:
    return float((logits - logits.mean(axis=0)).std()) or 1.0


@torch.no_grad()
def add_ngrams(
    model: PolicyModel,
    settings: ModelSettings,
    train: Labelled,
    validation: Labelled,
    validation_logits: np.ndarray,
    *,
    tokenizer: WindowTokenizer,
) -> None:
    """Give `model` a fitted n-gram branch and fold the mixing weights into head and branch.

    :param validation_logits: the encoder's record logits (N, K) on the validation split.
    """
    # What an empty text is made of is what every window carries besides its text.
    special = {tokenizer.pad_id, *tokenizer.encode("").windows[0].ids}
    branch = NgramBranch(settings.ngram_buckets, train.targets.shape[1], sorted(special))
    windows, targets, known = _window_cells(train)
    intercepts = fit_ngrams(branch, windows, targets, known, strength=settings.ngram_strength)
    branch_logits = np.stack(
        [_record_logits(branch, w) for w in validation.table.windows(range(len(validation.table)))]
    )
    encoder_scale = (1.0 - settings.ngram_share) / _spread(validation_logits)
    branch_scale = settings.ngram_share / _spread(branch_logits)
    model.head.weight.mul_(encoder_scale)
    model.head.bias.mul_(encoder_scale)
    model.head.bias.add_(branch_scale * torch.from_numpy(intercepts).to(model.head.bias.device))
    branch.weight.mul_(branch_scale)
    model.ngrams = branch.to(model.head.weight.device)


def _record_logits(branch: NgramBranch, windows: list[list[int]]) -> np.ndarray:
    rows = [branch(torch.tensor([w]), torch.ones((1, len(w)), dtype=torch.int64))[0].numpy() for w in windows]
    return np.max(rows, axis=0)
