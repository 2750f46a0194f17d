"""The mixture: its arithmetic, what it learns, and what it ignores."""

import numpy as np
import pytest
import torch

from merchantguard.core.labels import LabelMatrix
from merchantguard.train.evaluation.metrics import macro_average_precision
from merchantguard.train.model.mixture import Mixture, fit_mixture


def _world(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, LabelMatrix]:
    """Encoder and n-gram scores (n, 3) of three policies, each with noise of its own, and the labels."""
    draw = np.random.default_rng(seed)
    labels = (draw.random((n, 3)) < 0.3).astype(np.float32)
    encoder, ngrams = (3.0 * labels + draw.normal(0.0, 1.5, (n, 3)) for _ in range(2))
    return encoder, ngrams, LabelMatrix(labels, np.ones_like(labels))


def test_the_logits_are_a_weighted_sum() -> None:
    encoder, ngrams, _ = _world(20, seed=1)
    mixture = Mixture()
    mixture.weights.copy_(torch.tensor([1.2, 0.7]))
    given = mixture(torch.from_numpy(encoder).float(), torch.from_numpy(ngrams).float())
    np.testing.assert_allclose(given.numpy(), 1.2 * encoder + 0.7 * ngrams, atol=1e-5)


def test_both_parts_together_rank_better_than_either() -> None:
    encoder, ngrams, labels = _world(400, seed=2)
    mixture = fit_mixture(encoder, ngrams, labels)
    assert (mixture.weights > 0).all()
    mixed = mixture(torch.from_numpy(encoder).float(), torch.from_numpy(ngrams).float()).numpy()
    alone = [macro_average_precision(scores, labels) for scores in (encoder, ngrams)]
    assert macro_average_precision(mixed, labels) > max(alone)


def test_many_records_turn_a_useless_part_down() -> None:
    encoder, _, labels = _world(4000, seed=3)
    noise = np.random.default_rng(0).normal(size=encoder.shape)
    mixture = fit_mixture(encoder, noise, labels)
    assert mixture.weights[1] < 0.3 * mixture.weights[0]


def test_unlabelled_cells_do_not_count() -> None:
    encoder, ngrams, labels = _world(100, seed=4)
    mask = np.ones(labels.values.shape, dtype=bool)
    mask[::2] = False
    flipped = np.where(mask, labels.values, 1.0 - labels.values)
    one, two = (fit_mixture(encoder, ngrams, LabelMatrix(v, mask)) for v in (labels.values, flipped))
    assert torch.equal(one.weights, two.weights)


@pytest.mark.parametrize(("values", "mask"), [(0.0, True), (1.0, True), (0.0, False)])
def test_one_sided_or_missing_labels_give_finite_weights(values: float, mask: bool) -> None:
    labels = LabelMatrix(np.full((5, 3), values), np.full((5, 3), mask))
    mixture = fit_mixture(np.zeros((5, 3)), np.zeros((5, 3)), labels)
    assert torch.isfinite(mixture.weights).all()
