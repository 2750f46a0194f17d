from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.train.model import (
    build_model,
    load_trained_state,
    pool_windows,
    start_from_descriptions,
    trained_state,
)
from merchantguard.train.ngrams import NgramBranch
from merchantguard.train.optim import build_optimizer, optimizer_tensors, restore_optimizer
from merchantguard.train.settings import LoraSettings, ModelSettings, OptimSettings


def tiny_settings(base: Path, **changes: object) -> ModelSettings:
    return ModelSettings(base=str(base), window_tokens=24, stride_tokens=6, **changes)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_pooling_over_windows_is_that_of_each_record_alone(counts: list[int], attention: bool) -> None:
    torch.manual_seed(len(counts))
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    logits, scores = torch.randn(len(owner), 3), torch.randn(len(owner), 3)
    pooled = pool_windows((logits, scores) if attention else logits, owner, len(counts))
    for record in range(len(counts)):
        mine = logits[owner == record]
        expected = (scores[owner == record].softmax(0) * mine).sum(0) if attention else mine.amax(0)
        torch.testing.assert_close(pooled[record], expected)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "pooler"])
@pytest.mark.parametrize("window_pooling", ["max", "attention"])
def test_padding_does_not_change_a_window(tiny_base: Path, pooling: str, window_pooling: str) -> None:
    chosen = tiny_settings(tiny_base, token_pooling=pooling, window_pooling=window_pooling, ngram_buckets=64)
    model = build_model(chosen, LoraSettings(rank=2), n_policies=3).eval()
    assert model.ngrams is not None
    torch.nn.init.normal_(model.ngrams.weight)
    ids = torch.randint(4, 40, (2, 7))
    padded = torch.nn.functional.pad(ids, (0, 5))
    mask = torch.nn.functional.pad(torch.ones_like(ids), (0, 5))
    short, long = model(ids, torch.ones_like(ids)), model(padded, mask)
    torch.testing.assert_close(long, short, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "lora",
    [
        LoraSettings(rank=2),
        LoraSettings(rank=2, rslora=True, dora=True),
        LoraSettings(rank=2, init="pissa"),
        LoraSettings(enabled=False),
    ],
)
def test_trained_weights_go_out_and_come_back(tiny_base: Path, lora: LoraSettings) -> None:
    chosen = tiny_settings(tiny_base, ngram_buckets=32, window_pooling="attention")
    first = build_model(chosen, lora, n_policies=3).eval()
    optimizer = build_optimizer(first, OptimSettings(learning_rate=0.05), lora)
    ids = torch.randint(4, 40, (2, 7))
    for _ in range(2):
        logits, _ = first(ids, torch.ones_like(ids))
        logits.pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    state = trained_state(first)
    torch.manual_seed(99)
    second = build_model(chosen, lora, n_policies=3).eval()
    assert not torch.allclose(second(ids, torch.ones_like(ids))[0], first(ids, torch.ones_like(ids))[0])
    load_trained_state(second, state)
    torch.testing.assert_close(second(ids, torch.ones_like(ids)), first(ids, torch.ones_like(ids)))
    with pytest.raises(RuntimeError):
        load_trained_state(second, {k: v for k, v in state.items() if not k.startswith("head")})


def test_the_optimizers_state_goes_out_and_comes_back(tiny_base: Path) -> None:
    lora = LoraSettings(rank=2, plus_ratio=4.0)
    model = build_model(tiny_settings(tiny_base), lora, n_policies=2)
    optimizer = build_optimizer(model, OptimSettings(), lora)
    rates = {group["lr"] for group in optimizer.param_groups}
    assert max(rates) == pytest.approx(4.0 * min(rates))
    ids = torch.randint(4, 40, (2, 7))
    model(ids, torch.ones_like(ids)).sum().backward()
    optimizer.step()
    stored = optimizer_tensors(optimizer)
    other = build_optimizer(model, OptimSettings(), lora)
    restore_optimizer(other, stored)
    again = optimizer_tensors(other)
    assert stored.keys() == again.keys()
    assert all(torch.equal(stored[name], again[name]) for name in stored)


def test_the_head_can_start_from_descriptions(tiny_base: Path) -> None:
    model = build_model(
        tiny_settings(tiny_base, feature_norm=10.0), LoraSettings(rank=2), n_policies=2
    ).eval()
    descriptions = [[2, 5, 6, 7, 3], [2, 20, 21, 22, 23, 3]]
    start_from_descriptions(model, descriptions)
    for policy, ids in enumerate(descriptions):
        logits = model(torch.tensor([ids]), torch.ones((1, len(ids)), dtype=torch.int64))[0]
        assert int(logits.argmax()) == policy


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=30), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_ngram_logits_are_the_sum_of_the_weights_of_the_ngrams_there(ids: list[int], padding: int) -> None:
    torch.manual_seed(0)
    branch = NgramBranch(97, 3)
    torch.nn.init.normal_(branch.weight)
    tensor = torch.tensor([ids + [0] * padding])
    mask = torch.tensor([[1] * len(ids) + [0] * padding])
    expected = torch.zeros(3)
    for order in branch.orders:
        rows = branch.buckets_of(torch.tensor([ids]), order)[0, : max(len(ids) - order + 1, 0)]
        expected = expected + branch.weight[rows].sum(0)
    torch.testing.assert_close(branch(tensor, mask)[0], expected / len(ids) ** 0.5, rtol=1e-4, atol=1e-5)
