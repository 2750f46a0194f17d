"""Every encoder that can be trained can be exported."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoConfig, AutoModel

from merchantguard.export.graph import can_fuse, write_fused_graph, write_graph
from merchantguard.export.merge import example_inputs, merge_adapter
from merchantguard.train.model.architectures import ARCHITECTURES
from merchantguard.train.model.policy_model import PolicyModel, build_model
from merchantguard.train.settings import LoraSettings, ModelSettings

SMALL: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "eurobert": {"num_key_value_heads": 2, "head_dim": 8},
}


def tiny(model_type: str, folder: Path) -> PolicyModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **(SMALL | OWN.get(model_type, {})))
    AutoModel.from_config(config).save_pretrained(folder)
    settings = ModelSettings(base=str(folder), window_tokens=24, stride_tokens=6)
    model = build_model(settings, LoraSettings(rank=2), n_policies=3).eval()
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.3)
    return model


def difference(model: PolicyModel, path: Path) -> float:
    """The largest difference of a logit over batches of several shapes, padding among them."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch, length in ((1, 1), (1, 9), (5, 24), (2, 2)):
        input_ids, attention_mask = example_inputs(model, batch=batch, length=length)
        with torch.no_grad():
            expected = model(input_ids, attention_mask).numpy()
        feed = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        largest = max(largest, float(np.abs(session.run(["logits"], feed)[0] - expected).max()))
    return largest


@pytest.mark.slow
@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_the_graph_says_what_the_model_says(model_type: str, tmp_path: Path) -> None:
    model = tiny(model_type, tmp_path / "base")
    merged = merge_adapter(model)
    write_graph(merged, tmp_path / "model.onnx")
    assert difference(model, tmp_path / "model.onnx") < 1e-4


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert"])
def test_fusion_keeps_what_the_model_says(model_type: str, tmp_path: Path) -> None:
    model = tiny(model_type, tmp_path / "base")
    merged = merge_adapter(model)
    assert can_fuse(merged)
    before = merged.encoder.config._attn_implementation  # type: ignore[union-attr]
    if write_fused_graph(merged, tmp_path / "fused.onnx"):
        assert difference(model, tmp_path / "fused.onnx") < 1e-4
    assert (tmp_path / "fused.onnx").is_file() or model_type != "bert"
    assert merged.encoder.config._attn_implementation == before  # type: ignore[union-attr]


def test_an_encoder_without_fusions_gets_none(tmp_path: Path) -> None:
    assert not can_fuse(tiny("modernbert", tmp_path))
