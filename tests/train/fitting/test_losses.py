import math

import pytest
import torch
from torch.nn import functional as F

from merchantguard.train.fitting.losses import cell_losses, masked_loss
from merchantguard.train.settings import LossSettings


@pytest.fixture
def cells() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits = torch.randn(7, 4) * 3
    return logits, (torch.rand(7, 4) > 0.6).float(), torch.rand(7, 4) > 0.3


def test_bce_is_torchs_with_its_positive_weight(cells: tuple[torch.Tensor, ...]) -> None:
    logits, targets, _ = cells
    ours = cell_losses(logits, targets, LossSettings(positive_weight=5.0))
    theirs = F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=torch.full((4,), 5.0), reduction="none"
    )
    torch.testing.assert_close(ours, theirs)


def test_focal_and_asymmetric_losses_reduce_to_bce(cells: tuple[torch.Tensor, ...]) -> None:
    logits, targets, _ = cells
    bce = cell_losses(logits, targets, LossSettings())
    focal = cell_losses(logits, targets, LossSettings(name="focal", focal_gamma=0.0))
    asl = cell_losses(logits, targets, LossSettings(name="asl", asl_gamma_negative=0.0, asl_clip=0.0))
    torch.testing.assert_close(focal, bce)
    torch.testing.assert_close(asl, bce, rtol=1e-4, atol=1e-5)


def test_easy_negatives_weigh_nothing_in_the_asymmetric_loss() -> None:
    loss = cell_losses(torch.tensor([[-4.0, 2.0]]), torch.zeros(1, 2), LossSettings(name="asl"))
    assert loss[0, 0] == pytest.approx(0.0, abs=1e-6)  # p = 0.018 is below the clip of 0.05
    assert loss[0, 1] > 0.1


def test_focal_loss_of_one_cell_by_hand() -> None:
    p = 1 / (1 + math.exp(-0.7))
    loss = cell_losses(torch.tensor([[0.7]]), torch.ones(1, 1), LossSettings(name="focal", focal_gamma=2.0))
    assert float(loss) == pytest.approx(-((1 - p) ** 2) * math.log(p), rel=1e-5)


@pytest.mark.parametrize("name", ["bce", "focal", "asl"])
def test_unlabelled_cells_give_neither_loss_nor_gradient(name: str, cells: tuple[torch.Tensor, ...]) -> None:
    logits, targets, mask = cells
    settings = LossSettings(name=name, label_smoothing=0.1)
    logits.requires_grad_()
    masked_loss(logits, targets, mask, settings, n_records=7).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[~mask] == 0).all()
    flipped = torch.where(mask, targets, 1 - targets)
    same = [masked_loss(logits, t, mask, settings, n_records=7) for t in (targets, flipped)]
    assert same[0] == same[1]


def test_micro_batches_add_up_to_the_whole(cells: tuple[torch.Tensor, ...]) -> None:
    logits, targets, mask = cells
    whole = masked_loss(logits, targets, mask, LossSettings(), n_records=7)
    parts = [
        masked_loss(logits[s], targets[s], mask[s], LossSettings(), n_records=7)
        for s in (slice(3), slice(3, 7))
    ]
    torch.testing.assert_close(sum(parts), whole)
