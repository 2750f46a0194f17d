"""The mixture: its arithmetic, what it learns, and what it ignores."""

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit, logsumexp

from merchantguard.core.labels import LabelMatrix
from merchantguard.train.evaluation.metrics import any_violation_auroc, macro_average_precision
from merchantguard.train.model.mixture import (
    COMPETITION,
    LIFT,
    NAMES,
    Mixture,
    fit_mixture,
    with_any_violation,
)


def _world(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, LabelMatrix]:
    """Encoder and n-gram scores (n, 4) of three policies and "some violation", with labels (n, 3).

    Half of the compliant records are near misses: their policy's score is high, the last column is low.
    """
    draw = np.random.default_rng(seed)
    labels = np.zeros((n, 3), dtype=np.float32)
    topic = draw.integers(0, 3, size=n)
    violating = draw.random(n) < 0.4
    labels[np.arange(n), topic] = violating
    near = draw.random(n) < 0.5
    strength = np.where(violating | near, 2.0, -1.0)
    scores = []
    for _ in range(2):
        policies = draw.normal(0.0, 1.0, (n, 3))
        policies[np.arange(n), topic] += strength
        some = draw.normal(0.0, 1.0, n) + 2.0 * violating
        scores.append(np.column_stack([policies, some]))
    return scores[0], scores[1], LabelMatrix(labels, np.ones_like(labels))


def test_the_logits_follow_the_formula() -> None:
    encoder, ngrams, _ = _world(20, seed=1)
    mixture = Mixture(gated=True)
    mixture.weights[:5] = torch.tensor([1.2, 0.7, 0.6, 0.5, -0.2])
    w = dict(zip(NAMES, mixture.weights.tolist()[:5], strict=True))
    c = w["encoder"] * encoder[:, :3] + w["ngrams"] * ngrams[:, :3]
    gate = w["gate_encoder"] * encoder[:, 3:] + w["gate_ngrams"] * ngrams[:, 3:] + w["gate_bias"]
    expected = c - COMPETITION * logsumexp(c, axis=1, keepdims=True)
    expected += log_expit(gate) + LIFT * np.logaddexp(0.0, gate)
    given = mixture(torch.from_numpy(encoder).float(), torch.from_numpy(ngrams).float())
    np.testing.assert_allclose(given.numpy(), expected, atol=1e-5)


def test_without_a_gate_it_is_a_weighted_sum_with_competition() -> None:
    encoder, ngrams, labels = _world(200, seed=2)
    mixture = fit_mixture(encoder[:, :3], ngrams[:, :3], labels, gated=False)
    by_encoder, by_ngrams = mixture.weights[:2].tolist()
    assert by_encoder > 0
    assert by_ngrams > 0
    given = mixture(torch.from_numpy(encoder[:, :3]).float(), torch.from_numpy(ngrams[:, :3]).float())
    c = by_encoder * encoder[:, :3] + by_ngrams * ngrams[:, :3]
    np.testing.assert_allclose(
        given.numpy(), c - COMPETITION * logsumexp(c, axis=1, keepdims=True), atol=1e-5
    )


def test_the_gate_tells_near_misses_from_violations() -> None:
    encoder, ngrams, labels = _world(600, seed=3)
    unseen = _world(2000, seed=4)

    def measured(gated: bool) -> tuple[float, float]:
        columns = 4 if gated else 3
        mixture = fit_mixture(encoder[:, :columns], ngrams[:, :columns], labels, gated=gated)
        parts = [torch.from_numpy(part[:, :columns]).float() for part in unseen[:2]]
        logits = mixture(*parts).numpy()
        return (
            macro_average_precision(logits, unseen[2]),
            any_violation_auroc(expit(logits), unseen[2]),
        )

    with_gate, without = measured(True), measured(False)
    assert with_gate[0] > without[0] + 0.02
    assert with_gate[1] > without[1] + 0.05


def test_a_part_that_knows_nothing_gets_little_weight() -> None:
    encoder, ngrams, labels = _world(600, seed=5)
    noise = np.random.default_rng(6).normal(size=ngrams.shape)
    mixture = fit_mixture(encoder, noise, labels, gated=True)
    assert float(mixture.weights[1]) < 0.3 * float(mixture.weights[0])


def test_unlabelled_cells_change_nothing() -> None:
    encoder, ngrams, labels = _world(100, seed=7)
    mask = np.random.default_rng(8).random(labels.mask.shape) < 0.7
    wrong = np.where(mask, labels.values, 1.0 - labels.values)
    first, second = (
        fit_mixture(encoder, ngrams, LabelMatrix(values, mask), gated=True)
        for values in (labels.values, wrong)
    )
    torch.testing.assert_close(first.weights, second.weights)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("values", [0.0, 1.0])
@pytest.mark.parametrize("mask", [True, False])
def test_one_sided_or_missing_labels_give_finite_weights(gated: bool, values: float, mask: bool) -> None:
    scores = np.zeros((5, 4 if gated else 3))
    labels = LabelMatrix(np.full((5, 3), values), np.full((5, 3), mask))
    mixture = fit_mixture(scores, None, labels, gated=gated)
    assert torch.isfinite(mixture.weights).all()


def test_some_violation_is_labelled_where_a_positive_is_or_where_every_cell_is() -> None:
    values = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], dtype=np.float32)
    mask = np.array([[True, False], [False, True], [True, True], [True, False]])
    labels = with_any_violation(LabelMatrix(values, mask))
    assert labels.values[:, 2].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert labels.mask[:, 2].tolist() == [True, False, True, False]
    np.testing.assert_array_equal(labels.values[:, :2], values)
