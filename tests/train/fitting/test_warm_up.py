"""The contrastive warm-up: what its loss rewards, and what it does to a real (tiny) encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from merchantguard.train.batching.window_table import Labelled, WindowTable
from merchantguard.train.fitting.warm_up import contrastive_loss, warm_up
from merchantguard.train.model.policy_model import build_model
from merchantguard.train.settings import LoraSettings, ModelSettings, WarmUpSettings

AXES = torch.eye(4)
TARGETS = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
COMPLIANT = torch.tensor([False, False, False, True, True])
APART = AXES[[0, 0, 1, 2, 2]]


def _loss(texts: torch.Tensor, **changed: torch.Tensor) -> float:
    known = {"targets": TARGETS, "compliant": COMPLIANT} | changed
    return float(contrastive_loss(texts, AXES[:2], temperature=0.1, **known))


def test_texts_at_their_descriptions_and_kinds_together_are_best() -> None:
    best = _loss(APART)
    assert best < 0.01
    for row, axis in ((0, 1), (1, 2), (2, 3), (3, 0), (4, 1)):
        moved = APART.clone()
        moved[row] = AXES[axis]
        assert _loss(moved) > best + 0.1


def test_a_text_of_which_little_is_known_is_no_example_of_anything() -> None:
    unknown = torch.tensor([False, False, False, True, False])
    moved = APART.clone()
    moved[4] = AXES[3]
    assert _loss(moved, compliant=unknown) == pytest.approx(_loss(APART, compliant=unknown), abs=0.2)
    assert _loss(moved) > _loss(moved, compliant=unknown) + 0.5


def test_without_any_pair_or_violation_the_loss_is_zero() -> None:
    texts = AXES[:1].clone().requires_grad_()
    loss = contrastive_loss(texts, AXES[:2], torch.zeros(1, 2), torch.tensor([False]), 0.1)
    loss.backward()
    assert loss.item() == 0.0
    assert texts.grad is not None
    assert not texts.grad.any()


class _Windows(WindowTable):
    """Windows in memory: what the stage reads of a table."""

    def __init__(self, windows: list[list[int]]) -> None:
        self._windows, self.pad_id = windows, 0

    def __len__(self) -> int:
        return len(self._windows)

    def windows(self, records: object) -> list[list[list[int]]]:
        return [[self._windows[record]] for record in records]  # type: ignore[attr-defined]


def test_an_encoder_learns_to_put_texts_at_their_descriptions(tiny_base: Path) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(base=str(tiny_base), window_tokens=24, stride_tokens=6)
    model = build_model(settings, LoraSettings(rank=4), n_policies=2)
    draw = np.random.default_rng(0)
    # The first token tells the policy: 10 or 11; 12 is compliant.
    kinds = draw.integers(3, size=60)
    windows = [[10 + int(kind), *draw.integers(20, 40, size=5).tolist()] for kind in kinds]
    targets = np.stack([kinds == 0, kinds == 1], axis=1).astype(np.float32)
    labelled = Labelled(_Windows(windows), targets, np.ones_like(targets, dtype=bool))
    descriptions = [[10, 41, 42], [11, 43, 44]]

    def nearest() -> float:
        with torch.no_grad():
            ids = [
                torch.tensor([[*w, *([0] * (6 - len(w)))] for w in some]) for some in (windows, descriptions)
            ]
            masks = [torch.ones(60, 6), torch.tensor([[1, 1, 1, 0, 0, 0]] * 2)]
            texts, places = (
                nn.functional.normalize(model.pooled(i, m.long()), dim=1)
                for i, m in zip(ids, masks, strict=True)
            )
            best = (texts @ places.T).argmax(1).numpy()
        return float((best[kinds < 2] == kinds[kinds < 2]).mean())

    before = nearest()
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    stage = WarmUpSettings(steps=60, batch_records=16, learning_rate=0.01)
    warm_up(model, labelled, descriptions, stage, bf16=False, seed=0, shown=False)
    assert nearest() > max(0.9, before)
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    assert all(p.grad is None for p in model.parameters())
