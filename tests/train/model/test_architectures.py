import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, ViTConfig, ViTModel

from merchantguard.core.errors import SettingsError
from merchantguard.train.model.architectures import ARCHITECTURES, kept_head, linear_suffixes, lora_targets

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SPECIAL = dict.fromkeys(
    ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id"), 0
)


def tiny_encoder(model_type: str) -> nn.Module:
    shape: dict[str, int] = dict(SHAPE)
    if model_type == "distilbert":
        shape = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    if model_type == "eurobert":
        shape["num_key_value_heads"] = 2
    special = SPECIAL if model_type in ("modernbert", "eurobert") else {"pad_token_id": 0}
    config = AutoConfig.for_model(model_type, vocab_size=100, **shape, **special)
    return AutoModel.from_config(config)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_all_targets_are_every_linear_layer_of_the_blocks(model_type: str) -> None:
    encoder = tiny_encoder(model_type)
    targets = lora_targets(encoder, "all")
    linear = [
        n for n, m in encoder.named_modules() if isinstance(m, nn.Linear) and not n.startswith("pooler")
    ]
    assert sorted(targets) == sorted(linear)
    attention = lora_targets(encoder, "attention")
    assert set(attention) < set(targets)
    assert all("attn" in name or "attention" in name for name in attention)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_an_adapter_learns_on_every_architecture_and_nothing_else_moves(model_type: str) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    encoder = tiny_encoder(model_type)
    model = get_peft_model(encoder, LoraConfig(r=2, target_modules=lora_targets(encoder, "all")))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    ids = torch.randint(1, 100, (3, 9))
    model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.pow(2).sum().backward()
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all("lora_" in name for name in moved)


def test_a_pooler_is_kept_if_there_is_one_and_rejected_otherwise() -> None:
    assert kept_head(tiny_encoder("bert")) == "pooler"
    with pytest.raises(SettingsError, match="no pretrained pooler"):
        kept_head(tiny_encoder("modernbert"))


def test_the_error_for_an_unknown_architecture_lists_its_linear_modules() -> None:
    encoder = ViTModel(ViTConfig(**SHAPE, image_size=32, patch_size=16))
    with pytest.raises(SettingsError) as caught:
        lora_targets(encoder, "all")
    for suffix in linear_suffixes(encoder):
        assert suffix in str(caught.value)
    chosen = linear_suffixes(encoder)[0]
    assert lora_targets(encoder, [chosen.split(".")[-1]])
    with pytest.raises(SettingsError, match="matches no linear module"):
        lora_targets(encoder, ["not_there"])
