from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.core.labels import LabelMatrix
from merchantguard.train.fitting.optimizer import build_optimizer, optimizer_tensors, restore_optimizer
from merchantguard.train.model.ngram_branch import BLOCKS, NgramBranch
from merchantguard.train.model.ngram_stage import _tf_idf, fit_ngrams, piece_spellings
from merchantguard.train.model.policy_model import (
    build_model,
    load_trained_state,
    pool_windows,
    start_from_descriptions,
    trained_state,
)
from merchantguard.train.settings import LoraSettings, ModelSettings, OptimSettings


def tiny_settings(base: Path, **changes: object) -> ModelSettings:
    return ModelSettings(base=str(base), window_tokens=24, stride_tokens=6, **changes)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_pooling_over_windows_equals_pooling_each_record_alone(counts: list[int], attention: bool) -> None:
    torch.manual_seed(len(counts))
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    logits, scores = torch.randn(len(owner), 3), torch.randn(len(owner), 3)
    pooled = pool_windows((logits, scores) if attention else logits, owner, len(counts))
    for record in range(len(counts)):
        mine = logits[owner == record]
        expected = (scores[owner == record].softmax(0) * mine).sum(0) if attention else mine.amax(0)
        torch.testing.assert_close(pooled[record], expected)


@pytest.mark.parametrize(
    ("pooling", "windows"),
    [
        *((pooling, {"window_pooling": "attention"}) for pooling in ("mean", "cls")),
        *((pooling, {}) for pooling in ("softmax", "mean", "cls", "max", "pooler")),
        ("softmax", {"gate": True}),
    ],
)
def test_padding_does_not_change_a_window(tiny_base: Path, pooling: str, windows: dict[str, Any]) -> None:
    chosen = tiny_settings(tiny_base, token_pooling=pooling, ngram_buckets=64, **windows)
    model = build_model(chosen, LoraSettings(rank=2), n_policies=3, complete=True).eval()
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
def test_trained_weights_survive_a_round_trip(tiny_base: Path, lora: LoraSettings) -> None:
    chosen = tiny_settings(tiny_base, ngram_buckets=32, window_pooling="attention")
    first = build_model(chosen, lora, n_policies=3, complete=True).eval()
    optimizer = build_optimizer(first, OptimSettings(learning_rate=0.05), lora)
    ids = torch.randint(4, 40, (2, 7))
    for _ in range(2):
        logits, _ = first(ids, torch.ones_like(ids))
        logits.pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    state = trained_state(first)
    torch.manual_seed(99)
    second = build_model(chosen, lora, n_policies=3, complete=True).eval()
    assert not torch.allclose(second(ids, torch.ones_like(ids))[0], first(ids, torch.ones_like(ids))[0])
    load_trained_state(second, state)
    torch.testing.assert_close(second(ids, torch.ones_like(ids)), first(ids, torch.ones_like(ids)))
    with pytest.raises(RuntimeError):
        load_trained_state(second, {k: v for k, v in state.items() if not k.startswith("head")})


def test_the_optimizers_state_survives_a_round_trip(tiny_base: Path) -> None:
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


def test_harmless_tokens_do_not_dilute_a_sure_one(tiny_base: Path) -> None:
    """Softmax pooling of one token's score among many low ones stays near it; the mean does not."""
    scores = torch.full((1, 100, 1), -4.0)
    scores[0, 50] = 3.0
    weights = (2.0 * scores).softmax(dim=1)
    assert float((scores * weights).sum()) > 2.9
    model = build_model(
        tiny_settings(tiny_base, token_pooling="softmax", gate=True), LoraSettings(rank=2), n_policies=2
    ).eval()
    ids = torch.randint(4, 40, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    found, weights = model.token_scores(ids, mask)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3, 2))
    assert (weights[1, 4:] < 1e-6).all(), "neither the last token, which is special, nor padding"
    torch.testing.assert_close(model(ids, mask), (found * weights).sum(dim=1))


def test_the_head_can_start_from_descriptions(tiny_base: Path) -> None:
    model = build_model(
        tiny_settings(tiny_base, feature_norm=10.0), LoraSettings(rank=2), n_policies=2
    ).eval()
    descriptions = [[2, 5, 6, 7, 3], [2, 20, 21, 22, 23, 3]]
    start_from_descriptions(model, descriptions)
    for policy, ids in enumerate(descriptions):
        logits = model(torch.tensor([ids]), torch.ones((1, len(ids)), dtype=torch.int64))[0]
        assert int(logits.argmax()) == policy


@given(st.lists(st.integers(2, 40), min_size=1, max_size=90), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_the_branch_scores_the_highest_block_whatever_the_padding(ids: list[int], padding: int) -> None:
    branch = NgramBranch(41, 10_007, 2, special_ids=[0, 1])
    torch.manual_seed(0)
    branch.idf.uniform_(0.5, 3.0)
    branch.weight.normal_()
    scores = branch(torch.tensor([ids + [0] * padding]), torch.tensor([[1] * len(ids) + [0] * padding]))
    blocks = [
        _distinct_block(branch, ids[start : start + block + 1], block)
        for block, step in BLOCKS
        for start in [0, *(s for s in range(step, len(ids), step) if len(ids) - s > block - step)]
    ]
    np.testing.assert_allclose(scores[0].numpy(), np.max(blocks, axis=0), atol=1e-3)


def _distinct_block(branch: NgramBranch, ids: list[int], block: int) -> np.ndarray:
    """The score of a block by its definition: the sum over positions, scaled by the length of idf over positions. A pair
    that begins with the block's last token counts to the block."""
    idf, weight = branch.idf.double().numpy(), branch.weight.double().numpy()
    pairs = branch.rows_of(torch.tensor([ids]), 2)[0].tolist()[: min(block, len(ids) - 1)]
    rows = [*ids[:block], *pairs]
    total = sum(idf[row] * weight[row] for row in rows)
    return np.asarray(total / np.sqrt(sum(idf[row] ** 2 for row in rows)))


def test_text_around_a_phrase_does_not_dilute_its_ngrams() -> None:
    branch = NgramBranch(60, 4096, 1, special_ids=[0, 2, 3])
    branch.weight[20:24] = 3.0
    phrase, around = [20, 21, 22, 23] * 2, list(range(30, 50))
    alone = branch(torch.tensor([phrase]), torch.ones(1, len(phrase)))
    page = [*around * 4, *phrase, *around * 4]
    among = branch(torch.tensor([page]), torch.ones(1, len(page)))
    assert float(among) > 0.6 * float(alone)


def test_ngrams_learn_from_words_and_ignore_unlabelled_cells() -> None:
    draw = np.random.default_rng(0)
    windows = [[2, *draw.integers(10, 60, size=12).tolist(), 3] for _ in range(300)]
    targets = np.array([[20 in w, 30 in w] for w in windows], dtype=np.float32)
    mask = np.ones_like(targets, dtype=bool)
    mask[:, 1] = False
    branch = NgramBranch(60, 4096, 2, special_ids=[0, 2, 3])
    fit_ngrams(branch, windows, LabelMatrix(targets, mask), strength=10.0)
    ids = torch.tensor([[2, 20, 41, 3], [2, 40, 41, 3]])
    logits = branch(ids, torch.ones_like(ids))
    assert logits[0, 0] > logits[1, 0] + 1.0
    assert (branch.weight[:, 1] == 0).all()


@pytest.mark.parametrize(
    ("pieces", "spelt"),
    [
        (["[PAD]", "vap", "##ing"], ["▁[PAD]", "▁vap", "ing"]),
        (["▁vap", "ing"], ["▁vap", "ing"]),
        (["Ġvap", "ing", ""], ["▁vap", "ing", ""]),
    ],
)
def test_spellings_do_not_depend_on_the_tokenizer(pieces: list[str], spelt: list[str]) -> None:
    assert piece_spellings(pieces) == spelt


def test_pieces_with_similar_spelling_share_their_weight() -> None:
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "vaporize",
        "vaporizer",
        "teapot",
        *(f"w{i}" for i in range(40)),
    ]
    draw = np.random.default_rng(0)
    windows = [[2, 4 if i % 2 else 6, *draw.integers(7, 47, size=6).tolist(), 3] for i in range(80)]
    targets = np.array([[4 in w] for w in windows], dtype=np.float32)
    mask = np.ones_like(targets, dtype=bool)

    def scores(spellings: list[str]) -> list[float]:
        branch = NgramBranch(47, 512, 1, special_ids=[0, 2, 3])
        fit_ngrams(branch, windows, LabelMatrix(targets, mask), strength=10.0, spellings=spellings)
        return [float(branch(torch.tensor([[2, piece, 3]]), torch.ones((1, 3)))[0, 0]) for piece in (5, 6)]

    unseen, innocent = scores(piece_spellings(["##x", *pieces[1:]]))
    assert unseen > innocent + 1.0
    unseen_alone, _ = scores([])
    assert unseen > unseen_alone + 0.5


@given(st.lists(st.lists(st.integers(4, 46), min_size=1, max_size=12, unique=True), min_size=8, max_size=8))
@settings(max_examples=20, deadline=None)
def test_the_graph_computes_what_was_fitted(texts: list[list[int]]) -> None:
    branch = NgramBranch(47, 131_072, 1, special_ids=[0])
    targets = np.array([[i % 2] for i in range(8)], dtype=np.float32)
    letters = [f"##{chr(97 + i % 26)}{chr(97 + i // 26)}cd" for i in range(47)]
    fit_ngrams(
        branch,
        texts,
        LabelMatrix(targets, np.ones_like(targets)),
        strength=5.0,
        spellings=piece_spellings(letters),
    )
    features = _tf_idf(branch, texts)
    expected = features @ branch.weight.double().numpy() + branch.bias.double().numpy()
    given_scores = [branch(torch.tensor([w]), torch.ones((1, len(w))))[0].numpy() for w in texts]
    np.testing.assert_allclose(np.stack(given_scores), expected, atol=1e-4)


def test_rows_of_pairs_are_exact_in_float32() -> None:
    """Some engines compute integers in float32, which is exact only up to 2**24."""
    branch = NgramBranch(262_144, 131_072, 1)
    assert int(branch.pair_numbers.max()) * 2 + branch.rows < 2**24
    ids = torch.randint(0, 262_144, (8, 64), generator=torch.Generator().manual_seed(0))
    rows = branch.rows_of(ids, 2)
    first, second = branch.pair_numbers[0][ids].float(), branch.pair_numbers[1][ids.roll(-1, 1)].float()
    in_float = 262_144.0 + torch.remainder(first + second, 131_072.0)
    torch.testing.assert_close(in_float[:, :-1].long(), rows[:, :-1])


def test_rows_of_pairs_do_not_change_from_one_version_to_the_next() -> None:
    """Trained tables depend on them."""
    rows = NgramBranch(30_522, 131_072, 1).rows_of(torch.tensor([[101, 2023, 2003, 102]]), 2)
    assert rows.tolist() == [[120_192, 126_064, 141_183, 139_146]]
