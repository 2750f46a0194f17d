"""Packed windows give the same losses and gradients as padded ones, and no document sees another."""

import math
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, BertConfig, ModernBertConfig, MPNetConfig, RobertaConfig

from merchantguard.core.errors import SettingsError
from merchantguard.train.batching.batches import StepPlan, collate, padding_share, record_logits
from merchantguard.train.batching.window_table import WindowTable
from merchantguard.train.fitting.losses import masked_loss
from merchantguard.train.fitting.speedups import encoder_layers, switch_off, switch_on
from merchantguard.train.model.mixture import Mixture
from merchantguard.train.model.ngram_branch import NgramBranch
from merchantguard.train.model.packed_attention import (
    choose_packing,
    encode_packed,
    packing_layout,
    use_documents_attention,
)
from merchantguard.train.model.packing import best_fit, pack_windows
from merchantguard.train.model.policy_model import PolicyModel, build_model
from merchantguard.train.settings import LoraSettings, LossSettings, ModelSettings, OptimSettings

VOCABULARY = 60
_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
}
CONFIGS = {
    "bert": BertConfig(**_SMALL),
    "roberta": RobertaConfig(**_SMALL, pad_token_id=1),
    "mpnet": MPNetConfig(**_SMALL),
    # One layer that sees everything and two that see 8 tokens to each side.
    "modernbert": ModernBertConfig(
        **_SMALL, local_attention=16, global_attn_every_n_layers=3, pad_token_id=0
    ),
}


class MemoryTable(WindowTable):
    """A window table in memory, of random tokens."""

    def __init__(self, records: list[list[int]], seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.ids = [[draw.integers(4, VOCABULARY, length).tolist() for length in row] for row in records]
        self.pad_id = 0
        self.longest = np.array([max(row) for row in records])
        self.n_windows = np.array([len(row) for row in records])
        self.tokens = np.array([sum(row) for row in records])

    def __len__(self) -> int:
        return len(self.ids)

    def windows(self, records: Any) -> list[list[list[int]]]:
        return [self.ids[record] for record in records]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with random weights of each architecture."""
    folders = {}
    for name, config in CONFIGS.items():
        torch.manual_seed(1)
        folders[name] = tmp_path_factory.mktemp(name)
        AutoModel.from_config(config).save_pretrained(folders[name])
    return folders


def model_of(base: Path, lora: bool = True, **changes: Any) -> PolicyModel:
    """A model without dropout whose adapter is not zero."""
    torch.manual_seed(2)
    chosen = ModelSettings(base=str(base), window_tokens=64, stride_tokens=8, head_dropout=0.0, **changes)
    model = build_model(chosen, LoraSettings(enabled=lora, rank=2), n_policies=3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def with_mixture(model: PolicyModel) -> PolicyModel:
    """The same with an n-gram branch and a mixture, as after training."""
    model.ngrams = NgramBranch(VOCABULARY, 64, 3, special_ids=[0])
    torch.nn.init.normal_(model.ngrams.weight)
    model.mixture = Mixture()
    return model


TABLE = MemoryTable([[5, 64, 17], [2], [33], [9, 9], [64]])
RECORDS = [3, 0, 4, 1, 2]


def loss_and_gradients(model: PolicyModel, batch: Any) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    logits = record_logits(model, batch)
    targets = (torch.arange(logits.numel()).view_as(logits) % 3 == 0).float()
    loss = masked_loss(
        logits, targets, torch.ones_like(targets).bool(), LossSettings(), n_records=len(logits)
    )
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), gradients


def assert_alike(
    one: tuple[float, dict[str, torch.Tensor]], two: tuple[float, dict[str, torch.Tensor]]
) -> None:
    assert one[0] == pytest.approx(two[0], abs=1e-5)
    assert one[1].keys() == two[1].keys()
    assert len(one[1]) > 4
    for name, gradient in one[1].items():
        assert gradient.dtype == torch.float32
        assert (gradient - two[1][name]).abs().max() <= 1e-5, name


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("pooling", ["softmax", "mean", "cls", "max"])
@pytest.mark.parametrize("lora", [True, False])
def test_packed_and_padded_give_equal_losses_and_gradients(
    bases: dict[str, Path], name: str, pooling: str, lora: bool
) -> None:
    model = model_of(bases[name], lora, token_pooling=pooling)
    padded = loss_and_gradients(model, collate(TABLE, RECORDS))
    speedups = switch_on(model, OptimSettings(packing="packed"), torch.device("cpu"))
    packed = loss_and_gradients(model, collate(TABLE, RECORDS, layout=speedups.layout))
    assert_alike(packed, padded)


@pytest.mark.parametrize(
    "changes", [{"token_pooling": "pooler"}, {"gate": False, "window_pooling": "attention"}]
)
def test_other_heads_give_equal_losses_and_gradients_too(
    bases: dict[str, Path], changes: dict[str, Any]
) -> None:
    for name in ("bert", "mpnet"):
        model = model_of(bases[name], **changes)
        padded = loss_and_gradients(model, collate(TABLE, RECORDS))
        layout = switch_on(model, OptimSettings(packing="packed"), torch.device("cpu")).layout
        assert_alike(loss_and_gradients(model, collate(TABLE, RECORDS, layout=layout)), padded)


@pytest.mark.parametrize("name", ["bert", "mpnet", "modernbert"])
def test_the_ngram_branch_and_the_gate_read_packed_windows(bases: dict[str, Path], name: str) -> None:
    model = with_mixture(model_of(bases[name]))
    padded = loss_and_gradients(model, collate(TABLE, RECORDS))
    layout = switch_on(model, OptimSettings(packing="packed"), torch.device("cpu")).layout
    assert_alike(loss_and_gradients(model, collate(TABLE, RECORDS, layout=layout)), padded)


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_position_ids_alone_would_mix_documents(bases: dict[str, Path], name: str) -> None:
    """With position ids alone, packing under SDPA mixes documents; ours does not."""
    encoder = AutoModel.from_pretrained(bases[name], attn_implementation="sdpa").eval()
    windows = [window for record in TABLE.ids for window in record]
    packed = pack_windows(windows, pad_id=0, layout="flat")
    with torch.no_grad():
        alone = [encoder(input_ids=torch.tensor([w])).last_hidden_state[0] for w in windows]
        naive = encoder(input_ids=packed.input_ids, position_ids=packed.position_ids).last_hidden_state[0]
        use_documents_attention(encoder)
        ours = encode_packed(encoder, packed)[0]
    assert (naive - torch.cat(alone)).abs().max() > 1e-3
    assert (ours - torch.cat(alone)).abs().max() <= 1e-5


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_document_does_not_change_with_its_neighbours(bases: dict[str, Path], name: str) -> None:
    encoder = AutoModel.from_pretrained(bases[name]).eval()
    layout = packing_layout(encoder)
    assert layout is not None
    if layout == "flat":
        use_documents_attention(encoder)
    windows = [window for record in TABLE.ids for window in record]
    changed = [*windows[:2], [(token + 7) % 50 + 4 for token in windows[2]], *windows[3:]]
    hidden = []
    with torch.no_grad():
        for these in (windows, changed):
            packed = pack_windows(these, pad_id=0, layout=layout)
            hidden.append((encode_packed(encoder, packed).flatten(0, 1), packed.documents.flatten()))
    other = hidden[0][1] != 2
    assert torch.equal(hidden[0][0][other], hidden[1][0][other])
    assert not torch.allclose(hidden[0][0][~other], hidden[1][0][~other])


def test_flat_rows_are_rejected_under_attention_that_mixes_documents(bases: dict[str, Path]) -> None:
    model = model_of(bases["bert"])
    with pytest.raises(SettingsError, match="would mix documents"):
        record_logits(model, collate(TABLE, RECORDS, layout="flat"))


def test_packing_is_rejected_where_it_is_untested() -> None:
    encoder = torch.nn.Module()
    encoder.config = BertConfig()  # type: ignore[assignment]
    encoder.config.model_type = "something-new"  # type: ignore[union-attr]
    cpu = torch.device("cpu")
    with pytest.raises(SettingsError, match="something-new"):
        choose_packing("packed", encoder, device=cpu, mixed_precision="no")
    assert choose_packing("auto", encoder, device=torch.device("cuda"), mixed_precision="bf16") is None


def test_auto_packs_on_a_gpu_in_half_precision_only(bases: dict[str, Path]) -> None:
    encoder = AutoModel.from_pretrained(bases["bert"])
    found = [
        choose_packing("auto", encoder, device=torch.device(device), mixed_precision=precision)
        for device, precision in (("cuda", "bf16"), ("cuda", "no"), ("cpu", "bf16"))
    ]
    assert found == ["flat", None, None]


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_gradient_checkpointing_changes_no_gradient_and_is_undone(
    bases: dict[str, Path], packing: Any
) -> None:
    model = model_of(bases["modernbert"])
    before = model.encoder.config._attn_implementation  # type: ignore[union-attr]
    plain = loss_and_gradients(model, collate(TABLE, RECORDS))
    optim = OptimSettings(packing=packing, gradient_checkpointing=True)
    speedups = switch_on(model, optim, torch.device("cpu"))
    assert_alike(loss_and_gradients(model, collate(TABLE, RECORDS, layout=speedups.layout)), plain)
    switch_off(model, optim, speedups)
    assert model.encoder.config._attn_implementation == before  # type: ignore[union-attr]
    assert_alike(loss_and_gradients(model, collate(TABLE, RECORDS)), plain)


@pytest.mark.slow
def test_compiled_layers_give_the_same_and_keep_their_names(
    bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tracing and graph capture are the usual ones; the default backend's C++ compiler would take minutes here.
    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(compiled, backend="aot_eager"))
    model = model_of(bases["bert"], lora=False)
    names = list(model.state_dict())
    plain = loss_and_gradients(model, collate(TABLE, RECORDS))
    optim = OptimSettings(packing="packed", compile=True)
    speedups = switch_on(model, optim, torch.device("cpu"))
    assert len(encoder_layers(model.encoder)) == 3
    assert_alike(loss_and_gradients(model, collate(TABLE, RECORDS, layout=speedups.layout)), plain)
    assert list(model.state_dict()) == names
    switch_off(model, optim, speedups)
    assert all(layer._compiled_call_impl is None for layer in encoder_layers(model.encoder))


lengths = st.lists(st.integers(1, 64), min_size=1, max_size=60)


@given(lengths)
@settings(deadline=None)
def test_every_token_is_once_in_the_rows(of: list[int]) -> None:
    windows = [[number + 1] * length for number, length in enumerate(of)]
    for layout in ("flat", "rows"):
        packed = pack_windows(windows, pad_id=0, layout=layout)
        real = packed.documents < len(windows)
        assert int(real.sum()) == sum(of)
        assert torch.equal(packed.input_ids[real], packed.documents[real] + 1)
        assert (packed.input_ids[~real] == 0).all()
        for number, start in enumerate(packed.starts.tolist()):
            span = slice(start, start + of[number])
            assert packed.documents.flatten()[span].tolist() == [number] * of[number]
            assert packed.position_ids.flatten()[span].tolist() == list(range(of[number]))
        assert sum(of) >= 0.97 * packed.input_ids.numel()
    assert packed.longest == max(of)


@given(lengths, st.integers(64, 300), st.integers(1, 9))
@settings(deadline=None)
def test_best_fit_fills_bins_within_their_bounds(of: list[int], budget: int, most: int) -> None:
    bins = best_fit(range(len(of)), np.array(of), budget=budget, most=most)
    assert sorted(item for each in bins for item in each) == list(range(len(of)))
    assert all(sum(of[item] for item in each) <= budget and len(each) <= most for each in bins)
    if most >= len(of):  # no two bins fit into one: the guarantee of any-fit packing
        loads = sorted(sum(of[item] for item in each) for each in bins)
        assert len(loads) < 2 or loads[0] + loads[1] > budget
        assert len(bins) <= math.ceil(11 / 9 * math.ceil(sum(of) / budget)) + 1 or max(of) > budget // 2


def corpus_table() -> MemoryTable:
    """Windows as long as those of the shipped corpus, at 1.35 word pieces per word and 256 tokens every 192."""
    from merchantguard.data.records.readers import read_records
    from merchantguard.data.shipped import corpus_paths
    from merchantguard.data.taxonomy import load_taxonomy

    counts = [int(1.35 * len(r.text.split())) for r in read_records(corpus_paths(), load_taxonomy()).records]
    windows = [
        [min(256, count - start + 2) for start in range(0, max(count - 64, 1), 192)] for count in counts
    ]
    return MemoryTable(windows)


@pytest.mark.parametrize("most", [16, 10_000])
def test_batches_of_the_corpus_are_packed_to_97_percent(most: int) -> None:
    table = corpus_table()
    plan = StepPlan(table, budget=4096, most=most, packed=True)
    batches = [batch for step in plan.steps(0) for batch in step]
    for layout in ("flat", "rows"):
        assert padding_share(table, batches, layout=layout) <= 0.03
    if most > len(table):
        full = [batch for batch in batches if table.tokens[batch].sum() > 2048]
        assert table.tokens[np.concatenate(full)].sum() / (4096 * len(full)) >= 0.97
